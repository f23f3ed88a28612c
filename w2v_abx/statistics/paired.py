"""Did training change the ABX error? A test and an interval by one rule, over labels, their pairs and speakers."""

from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from scipy import optimize, special, stats

from w2v_abx.errors import InputError
from w2v_abx.statistics.cells import WHICH, Floats, Levels, Noise, PairMean, read_cells
from w2v_abx.statistics.intervals import ALPHA, crossed_p, crossed_reach, resampled, standard_error
from w2v_abx.statistics.power import smallest_change
from w2v_abx.statistics.signs import FLIPS, sign_flips

__all__ = ["Comparison", "compare", "compare_all", "correct", "holm"]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same ABX cells; errors and differences (after − before) are fractions, not percent.

    The rule: a difference is shown where two tests both show it. Signs are flipped over pairs of labels, which needs
    no normal distribution but takes pairs as independent and says nothing of speakers; and the difference is divided
    by its crossed standard error over labels and speakers (see `estimate`). So ``p`` is the larger of their two p, the
    interval spans those of both, and p < 0.05 if and only if the interval leaves out zero.

    Attributes:
        layer, condition: which cells; ``None`` where the tables do not say.
        on: the label told apart.
        n_labels, n_pairs, n_cells, n_speakers: labels, their unordered pairs, cells, speakers (0: not known).
        error_before, error_after: averaged as the setting says; by default as published.
        ci_low, ci_high: 95 % interval of ``difference``; ``nan`` where it has no bounds.
        p: two-sided, by the rule.
        p_permutation, p_crossed: of its two tests; the latter is ``nan`` where nothing could be resampled.
        exact: all sign patterns were enumerated.
        standard_error: the crossed one.
        resampled: what it is over ("phones", "speakers"); what is not named is held fixed.
        p_t, p_wilcoxon: paired tests over pairs of labels, for reference; ``p_t`` is ``nan`` without spread.
        effect_size, effect_low, effect_high: Cohen's dz over pairs and its 95 % interval; ``nan`` if undefined.
        p_holm: ``p`` of an exploratory comparison after Holm's correction over the ``family`` of them; None: no such.
    """

    layer: int | None
    condition: str | None
    on: str
    n_labels: int
    n_pairs: int
    n_cells: int
    n_speakers: int
    error_before: float
    error_after: float
    difference: float
    ci_low: float
    ci_high: float
    p: float
    p_permutation: float
    p_crossed: float
    exact: bool
    standard_error: float
    resampled: tuple[str, ...]
    p_t: float
    p_wilcoxon: float
    effect_size: float
    effect_low: float
    effect_high: float
    p_holm: float | None = None
    family: int = 1
    measured: tuple[PairMean, Noise, Floats] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``nan`` becomes ``None``."""
        values = asdict(replace(self, measured=None)) | {"resampled": list(self.resampled)}
        del values["measured"]
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    @property
    def shown(self) -> int:
        """1: the error is shown to be larger after, -1: smaller, 0: neither; after Holm's correction if exploratory."""
        p = self.p if self.p_holm is None else self.p_holm
        return int(np.sign(self.difference)) if p < ALPHA else 0

    def smallest_change(self) -> float | None:
        """The change that would have been shown in 80 of 100 such experiments; None: none would have been."""
        if self.measured is None or not self.measured[2].any():  # of changes that are all zero nothing can be told
            return None
        return smallest_change(*self.measured)


def compare(
    before: pl.DataFrame,
    after: pl.DataFrame,
    *,
    on: str = "#phone",
    speaker: str | None = "speaker",
    levels: Levels | None = None,
    weighted: bool = False,
    seed: int = 0,
    flips: int = FLIPS,
) -> Comparison:
    """Compare two models scored on the same cells, by the rule of `Comparison`.

    The unordered pair of labels, (a, b) and (b, a) together, is the unit of the paired tests.

    Args:
        before, after, on, speaker, levels, weighted: as in `estimate`, of one layer and condition each.
        seed: of the sign flips.
        flips: how many are drawn; all are enumerated where there are no more than that.

    Raises:
        InputError: the tables are not of the same cells, or as in `estimate`.
    """
    read = partial(read_cells, on=on, speaker=speaker, levels=levels, weighted=weighted)
    left, right = read(before, "before"), read(after, "after")
    if not left.keys.equals(right.keys):
        _refuse(left.keys, right.keys)
    mean, errors = left.mean, (left.scores, right.scores)
    differences = errors[1] - errors[0]
    difference, per_pair, noise = mean.mean(differences), mean.per_pair(differences), mean.noise(differences)
    flipped = sign_flips(per_pair, mean.over.weights, seed, flips)
    reach = float(crossed_reach(noise.labels, noise.speakers, mean.over))
    p_crossed = crossed_p(difference, noise, mean.over)
    bounds = min(flipped.low, difference - reach), max(flipped.high, difference + reach)
    bounded = bool(np.isfinite([*bounds, reach]).all())
    layer, condition = (after[column][0] if column in after.columns else None for column in WHICH)
    effect = _effect_size(per_pair)
    return Comparison(
        layer=layer,
        condition=condition,
        on=on,
        n_labels=len(mean.over.names),
        n_pairs=len(per_pair),
        n_cells=len(differences),
        n_speakers=mean.over.n_speakers,
        error_before=mean.mean(errors[0]),
        error_after=mean.mean(errors[1]),
        difference=difference,
        ci_low=bounds[0] if bounded else np.nan,
        ci_high=bounds[1] if bounded else np.nan,
        p=float(np.fmax(flipped.p, p_crossed)),
        p_permutation=flipped.p,
        p_crossed=p_crossed,
        exact=flipped.exact,
        standard_error=standard_error(noise),
        resampled=resampled(noise, on),
        p_t=_t_test(per_pair),
        p_wilcoxon=float(stats.wilcoxon(per_pair).pvalue) if np.any(per_pair) else 1.0,
        effect_size=effect[0],
        effect_low=effect[1],
        effect_high=effect[2],
        measured=(mean.over, noise, per_pair),
    )


def _refuse(left: pl.DataFrame, right: pl.DataFrame) -> None:
    """Raise InputError for the cells that only one of two tables has, by their keys."""
    if left.columns != right.columns:
        raise InputError(
            f"the cells before have the columns {', '.join(left.columns)}, those after {', '.join(right.columns)}; "
            "score both models on one task"
        )
    for missing, other, here, there in ((left, right, "before", "after"), (right, left, "after", "before")):
        lost = missing.join(other, on=left.columns, how="anti", nulls_equal=True)
        if lost.height:
            example = ", ".join(f"{k} {v}" for k, v in lost.sort(lost.columns).row(0, named=True).items())
            raise InputError(
                f"{lost.height} of {missing.height} cells {here} are not among those {there} (one is {example}); "
                "score both models on the same items, with the same caps and seed"
            )


def compare_all(
    before: pl.DataFrame,
    after: pl.DataFrame,
    *,
    on: str = "#phone",
    speaker: str | None = "speaker",
    levels: Levels | None = None,
    weighted: bool = False,
    seed: int = 0,
) -> list[Comparison]:
    """`compare` each layer and condition of two stacked tables; sorted by condition, then layer.

    Raises as `compare`, and where one table has a layer or condition more.
    """
    for name, table in (("before", before), ("after", after)):
        for column in WHICH:
            if column not in table.columns:
                raise InputError(
                    f"the cells {name} have no column {column!r}; use compare for a single layer and condition"
                )
        if table.is_empty():
            raise InputError(f"the table of cells {name} is empty; there is nothing to compare")
    tables = [t.partition_by(list(WHICH), as_dict=True) for t in (before, after)]
    if odd := set(tables[0]) ^ set(tables[1]):
        layer, condition = sorted(odd, key=str)[0]
        raise InputError(
            f"only one of the two models was scored at layer {layer}, in the condition {condition}; score both alike"
        )
    options: dict[str, Any] = {"on": on, "speaker": speaker, "levels": levels, "weighted": weighted, "seed": seed}
    return [
        compare(tables[0][key], tables[1][key], **options)
        for key in sorted(tables[0], key=lambda key: (str(key[1]), key[0]))
    ]


def correct(comparisons: Sequence[Comparison], primary: Comparison, able: Container[int] | None) -> list[Comparison]:
    """Correct the exploratory comparisons by Holm's method: all but ``primary``, at the layers that are ``able`` to
    change (None: all are). Those of each label told apart are a family: each is a question of its own."""
    corrected: dict[int, tuple[float, int]] = {}
    for on in {c.on for c in comparisons}:
        explored = [c for c in comparisons if c.on == on and c is not primary and (able is None or c.layer in able)]
        found = holm([c.p for c in explored])
        corrected |= {id(c): (p, len(explored)) for c, p in zip(explored, found, strict=True)}
    return [
        replace(c, p_holm=corrected[id(c)][0], family=corrected[id(c)][1]) if id(c) in corrected else c
        for c in comparisons
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction, in the order given. Raises InputError outside [0, 1]."""
    p = np.asarray(p_values, dtype=float)
    if not np.all((p >= 0) & (p <= 1)):
        raise InputError(f"p-values must lie in [0, 1]; got {p_values}")
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(x) for x in corrected]


def _flat(values: Floats) -> bool:
    """No spread beyond rounding."""
    return bool(np.ptp(values) <= 1e-12 * max(1e-6, float(np.abs(values).max())))


def _t_test(differences: Floats) -> float:
    if not np.any(differences):
        return 1.0
    return (
        float("nan") if len(differences) < 2 or _flat(differences) else float(stats.ttest_1samp(differences, 0).pvalue)
    )


def _effect_size(differences: Floats) -> tuple[float, float, float]:
    """Cohen's dz and its exact interval under normality, from the noncentral t (Cumming & Finch, 2001)."""
    n = len(differences)
    if n < 2 or _flat(differences):
        return (0.0, 0.0, 0.0) if n > 1 and not np.any(differences) else (float("nan"),) * 3
    dz = float(differences.mean() / differences.std(ddof=1))
    t = dz * np.sqrt(n)
    # T is (Z + nc) / S with S² = χ²/df; a mean over quantiles of S, because SciPy's nct gives nan in its tails.
    scale = np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, n - 1) / (n - 1))
    reach = 10 + abs(t) * float(scale[-1])
    low, high = (
        optimize.brentq(lambda nc, tail=tail: special.ndtr(t * scale - nc).mean() - tail, -reach, reach)
        for tail in (0.975, 0.025)
    )
    return dz, float(low / np.sqrt(n)), float(high / np.sqrt(n))
