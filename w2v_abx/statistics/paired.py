"""Did training change the ABX error? Paired tests, intervals and corrections over phone pairs and speakers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy import optimize, special, stats

from w2v_abx.errors import InputError
from w2v_abx.statistics.intervals import WHICH, Floats, crossed_interval, fold, read_cells

__all__ = ["Comparison", "compare", "compare_all", "holm"]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same ABX cells; errors and differences (after − before) are fractions, not percent.

    Attributes:
        layer, condition: which cells; ``None`` where the tables do not say.
        on: the label told apart.
        n_pairs, n_cells, n_speakers: unordered phone pairs, cells, speakers (0 where speakers are not known).
        error_before, error_after: the published average (contexts, then speakers, then ordered pairs).
        ci_low, ci_high: 95 % interval of ``difference``; ``nan`` where nothing could be resampled.
        standard_error, degrees_of_freedom: what the width of that interval rests on.
        resampled: what the interval generalises over ("phone pairs", "speakers").
        p_t, p_wilcoxon: two-sided paired tests over phone pairs; ``p_t`` is ``nan`` for one pair or no spread.
        p_permutation: two-sided sign-flip test over phone pairs; enumerated rather than sampled where ``exact``.
        p_holm: ``p_permutation`` after Holm's correction over the ``family`` comparisons made together.
        effect_size, effect_low, effect_high: Cohen's dz over phone pairs and its 95 % interval; ``nan`` if undefined.
    """

    layer: int | None
    condition: str | None
    on: str
    n_pairs: int
    n_cells: int
    n_speakers: int
    error_before: float
    error_after: float
    difference: float
    ci_low: float
    ci_high: float
    standard_error: float
    degrees_of_freedom: float
    resampled: tuple[str, ...]
    p_t: float
    p_wilcoxon: float
    p_permutation: float
    exact: bool
    effect_size: float
    effect_low: float
    effect_high: float
    p_holm: float | None = None
    family: int = 1

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``nan`` becomes ``None``."""
        values = asdict(self) | {"resampled": list(self.resampled)}
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    def smallest_effect(self, alpha: float = 0.05, power: float = 0.8) -> float:
        """The difference that this many pairs and speakers would have shown with probability ``power`` (fraction)."""
        t = stats.t(self.degrees_of_freedom)
        return float((t.ppf(1 - alpha / self.family / 2) + t.ppf(power)) * self.standard_error)


def compare(
    before: pl.DataFrame,
    after: pl.DataFrame,
    *,
    on: str = "#phone",
    speaker: str | None = "speaker",
    seed: int = 0,
    draws: int = 2000,
    permutations: int = 100_000,
) -> Comparison:
    """Compare two models scored on the same cells.

    Errors are averaged as published (contexts, speakers, ordered pairs); the unordered phone pair, (a, b) and (b, a)
    together, is the unit of the tests. The interval also covers speakers; see `estimate`. Phone pairs share phones,
    and the tests take them as independent, so p-values are somewhat optimistic: read them beside the interval.

    Args:
        before, after: cells as in `estimate`, of one layer and condition each.
        permutations: sign flips drawn; all are enumerated where there are no more than that.

    Raises:
        InputError: the tables are not of the same cells, or as in `estimate`.
    """
    left, keys = read_cells(before, on, speaker, "before")
    right, right_keys = read_cells(after, on, speaker, "after")
    if set(keys) != set(right_keys):
        raise InputError(
            f"the cells before have the columns {', '.join(keys)}, those after {', '.join(right_keys)}; "
            "score both models on one task"
        )
    right = right.rename({"score": "after"})
    for missing, here, there in ((left, "before", "after"), (right, "after", "before")):
        other = right if missing is left else left
        lost = missing.join(other, on=keys, how="anti", nulls_equal=True)
        if lost.height:
            example = ", ".join(f"{k} {v}" for k, v in lost.sort(keys).select(keys).row(0, named=True).items())
            raise InputError(
                f"{lost.height} of {missing.height} cells {here} are not among those {there} (one is {example}); "
                "score both models on the same items, with the same caps and seed"
            )
    joined = left.join(right, on=keys, nulls_equal=True).with_columns(difference=pl.col("after") - pl.col("score"))
    grid = fold(joined, ["score", "after", "difference"], on, speaker)
    error_before, error_after = (float(grid.per_pair(v).sum() / grid.directions.sum()) for v in grid.sums[:2])
    interval = crossed_interval(grid, grid.sums[2], seed, draws)
    per_pair = grid.per_pair(grid.sums[2])
    pair_means = per_pair / grid.directions
    p_permutation, exact = _sign_flips(per_pair, seed, permutations)
    layer, condition = (after[column][0] if column in after.columns else None for column in WHICH)
    effect = _effect_size(pair_means)
    return Comparison(
        layer=layer,
        condition=condition,
        on=on,
        n_pairs=len(per_pair),
        n_cells=joined.height,
        n_speakers=grid.n_speakers,
        error_before=error_before,
        error_after=error_after,
        difference=interval.value,
        ci_low=interval.low,
        ci_high=interval.high,
        standard_error=interval.standard_error,
        degrees_of_freedom=interval.degrees_of_freedom,
        resampled=interval.resampled,
        p_t=_t_test(pair_means),
        p_wilcoxon=float(stats.wilcoxon(pair_means).pvalue) if np.any(pair_means) else 1.0,
        p_permutation=p_permutation,
        exact=exact,
        effect_size=effect[0],
        effect_low=effect[1],
        effect_high=effect[2],
    )


def compare_all(
    before: pl.DataFrame,
    after: pl.DataFrame,
    *,
    on: str = "#phone",
    speaker: str | None = "speaker",
    seed: int = 0,
    draws: int = 2000,
    permutations: int = 100_000,
) -> list[Comparison]:
    """`compare` each layer and condition of two stacked tables, with Holm's correction over all of them.

    Sorted by condition, then layer. Raises as `compare`, and where one table has a layer or condition more.
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
            f"only one of the two models was scored at layer {layer}, {condition} speaker; score both alike"
        )
    made = [
        compare(
            tables[0][key], tables[1][key], on=on, speaker=speaker, seed=seed, draws=draws, permutations=permutations
        )
        for key in sorted(tables[0], key=lambda key: (str(key[1]), key[0]))
    ]
    corrected = holm([c.p_permutation for c in made])
    return [replace(c, p_holm=p, family=len(made)) for c, p in zip(made, corrected, strict=True)]


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


def _sign_flips(differences: Floats, seed: int, permutations: int) -> tuple[float, bool]:
    """Two-sided p of the sum under random signs, and whether all sign patterns were enumerated."""
    n = len(differences)
    observed = abs(differences.sum())
    # Sums that differ by rounding alone count as ties, whatever the order of summation.
    least = observed - 1e-9 * max(np.abs(differences).sum(), 1e-300)
    exact = 2**n <= permutations
    total = 2**n if exact else permutations
    rng = np.random.default_rng(seed)
    hits, step = 0, max(8, 4_000_000 // n)
    for start in range(0, total, step):
        size = min(step, total - start)
        if exact:
            flips = ((np.arange(start, start + size)[:, None] >> np.arange(n)) & 1).astype(np.uint8)
        else:
            flips = np.unpackbits(rng.integers(0, 256, (size, -(-n // 8)), dtype=np.uint8), axis=1, count=n)
        sums = differences.sum() - 2 * (flips.astype(float) @ differences)
        hits += int((np.abs(sums) >= least).sum())
    return (hits / total if exact else (hits + 1) / (total + 1)), exact
