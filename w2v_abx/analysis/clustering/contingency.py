"""Compare two labellings of the same points by how often their values meet: scores from counts alone.

A table of counts (R, C) says how many points have each pair of values; here rows are mostly clusters and columns the
classes of a label. It is as small as the values are few, however many points there are.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln
from sklearn.metrics import mutual_info_score

__all__ = [
    "Changes",
    "adjusted_rand",
    "changes",
    "concentration",
    "contingency",
    "expected_information",
    "matched",
    "scores",
]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BRANCH = 0.25  # of a cluster's frames: it splits into the clusters that get as many, and merges those that give as many


def contingency(rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer], shape: tuple[int, int]) -> Integers:
    """Count how often each pair of values (N,), (N,) meets, (R, C); a point with −1 in either is left out."""
    both = (rows >= 0) & (columns >= 0)
    numbers = rows[both].astype(np.int64) * shape[1] + columns[both]
    return np.bincount(numbers, minlength=shape[0] * shape[1]).reshape(shape)


def scores(table: Integers) -> dict[str, float]:
    """Compute how far clusters (rows) and classes (columns) agree; NaN throughout for a table without a point.

    ``mutual_information`` in nats; ``ami``, adjusted for chance (Vinh et al., 2010; by the arithmetic mean of the
    entropies); ``homogeneity``, ``completeness`` and ``v_measure`` (Rosenberg and Hirschberg, 2007), as scikit-learn's.
    ``pnmi``, the mutual information divided by the classes' entropy (Hsu et al., 2021, "HuBERT"), is the homogeneity.
    ``purity``: the share of points whose class is the most frequent one of their cluster (phone purity in HuBERT);
    ``cluster_purity``: of those whose cluster is the most frequent one of their class.
    """
    names = ("mutual_information", "ami", "homogeneity", "completeness", "v_measure", "pnmi", "purity")
    if not (total := table.sum()):
        return dict.fromkeys((*names, "cluster_purity"), np.nan)
    table = table[np.ix_(table.any(1), table.any(0))]
    information = mutual_info_score(None, None, contingency=table)
    classes, clusters = _entropy(table.sum(0)), _entropy(table.sum(1))
    homogeneity = information / classes if classes else 1.0
    completeness = information / clusters if clusters else 1.0
    both = homogeneity + completeness
    values = (
        information,
        _adjusted(table, information, (classes + clusters) / 2),
        homogeneity,
        completeness,
        2 * homogeneity * completeness / both if both else 0.0,
        homogeneity,
        table.max(1).sum() / total,
    )
    return {**dict(zip(names, map(float, values), strict=True)), "cluster_purity": float(table.max(0).sum() / total)}


def adjusted_rand(table: Integers) -> float:
    """Compute the Rand index adjusted for chance (Hubert and Arabie, 1985); NaN for a table without a point."""
    if not (total := int(table.sum())):
        return np.nan
    # Pairs of points that share both values, a row's, a column's; Python's integers do not overflow.
    both, rows, columns = (
        sum(int(n) * (int(n) - 1) // 2 for n in part) for part in (table[table > 1], table.sum(1), table.sum(0))
    )
    pairs = total * (total - 1) // 2
    if both == rows == columns:
        return 1.0
    expected = rows * columns / pairs
    return (both - expected) / ((rows + columns) / 2 - expected)


def concentration(table: Integers) -> Floats:
    """Compute the share of each class's points (C,) that lie in the one cluster that has most of them; NaN without."""
    totals = table.sum(0)
    return np.divide(table.max(0), totals, out=np.full(table.shape[1], np.nan), where=totals > 0)


def matched(table: Integers) -> Integers:
    """Match clusters one to one so that most points are in matched ones (Kuhn, 1955): the column of each row, −1: none.

    A row and a column that share no point are not matched.
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    found = np.full(len(table), -1)
    found[rows] = np.where(table[rows, columns] > 0, columns, -1)
    return found


class Changes(NamedTuple):
    """What becomes of one model's clusters in another.

    Attributes:
        drift: the share of points that leave the matched cluster; NaN without a point.
        splits: clusters of the first of which two of the second get a quarter of the points, or more, each.
        merges: clusters of the second to which two of the first give a quarter of the points, or more, each.
    """

    drift: float
    splits: int
    merges: int


def changes(table: Integers) -> Changes:
    """Compare the clusters of one model (rows) and of another (columns)."""
    total = table.sum()
    match = matched(table)
    rows = np.flatnonzero(match >= 0)
    stay = table[rows, match[rows]].sum()
    split = (table >= np.maximum(BRANCH * table.sum(1, keepdims=True), 1)).sum(1) > 1
    merged = (table >= np.maximum(BRANCH * table.sum(0, keepdims=True), 1)).sum(0) > 1
    return Changes(float(1 - stay / total) if total else np.nan, int(split.sum()), int(merged.sum()))


def expected_information(rows: Integers, columns: Integers) -> float:
    """Compute the mutual information (nats) that chance gives two labellings with these counts (Vinh et al., 2010).

    As scikit-learn's, whose sum is over all counts that a cell could have, as many as there are points. Here it is over
    those within twelve standard deviations of the mean, and twenty more: the others weigh less than 1e-16.
    """
    total, expected = int(rows.sum()), 0.0
    columns = columns.astype(np.float64)
    for a in rows.astype(np.float64):
        means = a * columns / total
        reach = 12 * np.sqrt(means) + 20
        low = np.maximum(np.floor(means - reach), np.maximum(1, a + columns - total))
        high = np.minimum(np.ceil(means + reach), np.minimum(a, columns))
        sizes = np.maximum(high - low + 1, 0).astype(np.int64)
        b, begin = np.repeat(columns, sizes), np.repeat(low - np.cumsum(sizes) + sizes, sizes)
        n = begin + np.arange(len(begin))
        ways = gammaln(a + 1) + gammaln(b + 1) + gammaln(total - a + 1) + gammaln(total - b + 1) - gammaln(total + 1)
        ways -= gammaln(n + 1) + gammaln(a - n + 1) + gammaln(b - n + 1) + gammaln(total - a - b + n + 1)
        expected += float((n / total * np.log(total * n / (a * b)) * np.exp(ways)).sum())
    return expected


def _entropy(counts: Integers) -> float:
    """Compute the entropy of some counts, all above 0, in nats; exactly 0 of a single one."""
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum()) if len(counts) > 1 else 0.0


def _adjusted(table: Integers, information: float, entropy: float) -> float:
    """Adjust mutual information for chance; the cases without a spread are scikit-learn's."""
    if 1 in table.shape:
        return float(table.shape == (1, 1))
    expected = expected_information(table.sum(1), table.sum(0))
    least = np.finfo(np.float64).eps  # where all that can be is expected, 0 / 0 is agreement, as scikit-learn has it
    numerator, denominator = information - expected, entropy - expected
    return _away(numerator, least) / _away(denominator, least)


def _away(value: float, least: float) -> float:
    return min(value, -least) if value < 0 else max(value, least)
