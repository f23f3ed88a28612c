"""The smallest change that a comparison could have shown, by simulating the rule of its verdict."""

import numpy as np
from scipy import optimize

from w2v_abx.statistics.cells import Floats, Noise, PairMean
from w2v_abx.statistics.intervals import crossed_reach
from w2v_abx.statistics.signs import flip_bounds, sign_patterns

__all__ = ["POWER", "smallest_change"]

POWER = 0.8
EXPERIMENTS = 1000  # simulated
FLIPS = 399  # sign patterns of each; those of up to `ENUMERATED` pairs are enumerated
ENUMERATED = 10  # pairs


def smallest_change(over: PairMean, noise: Noise, per_pair: Floats, seed: int = 0) -> float | None:
    """The change that another experiment like this one would have shown with probability `POWER`; None: no change.

    Experiments without a change are drawn with labels, pairs and speakers as different as they are in ``per_pair`` and
    ``noise`` — or as they might be, for these are estimates, the surer the more labels and speakers there are. A
    change moves both bounds of an interval with it. So the one that is shown in 80 of 100 is that which is larger than
    the distance of the nearer bound from zero in 80 of 100.
    """
    n_pairs, n = len(over.pairs), len(over.names)
    patterns, _ = sign_patterns(n_pairs, 2 ** (ENUMERATED - 1) if n_pairs <= ENUMERATED else FLIPS, seed)
    if not np.isfinite(flip_bounds(per_pair[None], over.weights, patterns)[0]).all():
        return None
    rng = np.random.default_rng(seed)

    def unsure(freedom: int) -> Floats:
        """Factors by which a variance may differ from its estimate with so many degrees of freedom.

        One more counts, a weak prior, between what makes the change one that is found in 80 of 100 on average over
        experiments, each with its own estimate, and what does so for a typical one.
        """
        return (freedom + 1) / rng.chisquare(freedom + 1, (EXPERIMENTS, 1))

    of_labels = rng.standard_normal((EXPERIMENTS, n))[:, over.pairs].sum(2)
    of_pairs = rng.standard_normal((EXPERIMENTS, n_pairs))
    # What the two variances are for labels that differ by one, and for pairs that do; and so, how much these differ.
    moments = np.array([[part.mean() for part in over.variances(values)] for values in (of_labels, of_pairs)]).T
    observed = np.maximum(over.variances(per_pair), 1e-300)
    sure = np.sqrt([n - 1, n_pairs - 1])  # by degrees of freedom
    spread, _ = optimize.nnls(moments * (sure / observed)[:, None], sure)
    values = np.sqrt(spread[0] * unsure(n - 1)) * of_labels + np.sqrt(spread[1] * unsure(n_pairs - 1)) * of_pairs

    common, speakers = np.zeros((EXPERIMENTS, 1)), np.full(EXPERIMENTS, np.nan)
    if np.isfinite(noise.speakers):
        freedom = over.n_speakers - 1
        factor = unsure(freedom)
        # What speakers add to all pairs alike; the rest of their variance is in the pairs already.
        differ = max(0.0, noise.speakers - noise.residual)
        common = np.sqrt(differ * factor) * rng.standard_normal((EXPERIMENTS, 1))
        speakers = noise.speakers * factor[:, 0] * rng.chisquare(freedom, EXPERIMENTS) / freedom
    values += common
    labels = np.maximum(*over.variances(values))
    reach, mean = crossed_reach(labels, speakers, over), values @ over.weights
    low, high = flip_bounds(values, over.weights, patterns)
    return float(np.quantile(np.concatenate([-np.minimum(low, mean - reach), np.maximum(high, mean + reach)]), POWER))
