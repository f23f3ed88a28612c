"""Sign-flip tests over pairs of labels, and the intervals that invert them."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from w2v_abx.statistics.cells import Floats
from w2v_abx.statistics.intervals import ALPHA

__all__ = ["FLIPS", "SignFlips", "flip_bounds", "sign_flips", "sign_patterns"]

FLIPS = 19_999  # sign patterns drawn, each with its opposite; all are enumerated where there are no more than that


class SignFlips(NamedTuple):
    """A two-sided p, the interval of all shifts that a test with the same patterns would not refuse, and whether all
    patterns were enumerated. Zero is outside the interval if and only if p < 0.05."""

    p: float
    low: float
    high: float
    exact: bool


@lru_cache(maxsize=1)
def sign_patterns(n: int, draws: int, seed: int) -> tuple[npt.NDArray[np.bool_], bool]:
    """Which of ``n`` values keep their sign (draws, n), and whether these are all patterns there are.

    A pattern and its opposite are one: their sums differ in the sign alone. The one that flips nothing is left out.
    """
    if n <= 62 and 2 ** (n - 1) - 1 <= draws:
        return ((np.arange(1, 2 ** (n - 1))[:, None] >> np.arange(n)) & 1).astype(bool), True
    bits = np.random.default_rng(seed).integers(0, 256, (draws, -(-n // 8)), dtype=np.uint8)
    return np.unpackbits(bits, axis=1, count=n).astype(bool), False


def sign_flips(values: Floats, weights: Floats, seed: int, draws: int = FLIPS) -> SignFlips:
    """Test whether the mean of ``values`` (P,), weighted by ``weights``, is zero, and give its interval.

    The signs of all values are flipped at random, as they could be if each pair were as likely to gain as to lose.
    """
    patterns, exact = sign_patterns(len(values), draws, seed)
    means = _means(values[None], weights, patterns)
    total = float(_snapped((weights * values).sum(), (weights * np.abs(values)).sum()))
    hits = int((means[0] <= 0).sum() if total > 0 else (means[1] >= 0).sum()) if total else len(patterns)
    low, high = (float(bound[0]) for bound in _bounds(*means))
    return SignFlips((1 + hits) / (1 + len(patterns)), low, high, exact)


def flip_bounds(values: Floats, weights: Floats, patterns: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The intervals of several rows of ``values`` (E, P), as `sign_flips` gives them."""
    return _bounds(*_means(values, weights, patterns))


def _bounds(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The bounds of intervals, from what `_means` gives; infinite where too few signs can be flipped.

    A sum of ``weights * (values - shift)`` is exceeded by one with other signs if and only if the mean of the values
    that keep theirs, or of the others, lies beyond the shift (Hartigan, 1969, *Using subsample values as typical
    values*). So the bounds are order statistics of such means.
    """
    rank = int(np.ceil(ALPHA * (low.shape[1] + 1) - 1e-9)) - 1
    if rank < 1:
        nowhere = np.full(len(low), np.inf)
        return -nowhere, nowhere
    return np.partition(low, rank - 1)[:, rank - 1], -np.partition(-high, rank - 1)[:, rank - 1]


def _means(values: Floats, weights: Floats, patterns: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The lower and the higher (E, J) of the means of the values that keep their sign and of those that do not."""
    weighted, size = values * weights, np.abs(values) @ weights
    low, high = (np.empty((len(values), len(patterns))) for _ in range(2))
    step = max(16, 200_000 // max(1, patterns.shape[1]))  # a chunk stays in a core's cache
    for start in range(0, len(patterns), step):
        part = slice(start, start + step)
        keep = patterns[part].astype(np.float64)
        sums, mass = weighted @ keep.T, keep @ weights
        rest = weighted.sum(1)[:, None] - sums
        with np.errstate(divide="ignore", invalid="ignore"):
            means = [_snapped(s, size[:, None]) / m for s, m in ((sums, mass), (rest, weights.sum() - mass))]
        none = (keep.sum(1) % patterns.shape[1] == 0)[None]  # all signs are one: no more than the sum itself
        low[:, part] = np.where(none, -np.inf, np.minimum(*means))
        high[:, part] = np.where(none, np.inf, np.maximum(*means))
    return low, high


def _snapped(sums: Floats, size: Floats) -> Floats:
    """Sums that differ from zero by rounding alone, whatever the order of summation, as zero: they count as ties."""
    return np.where(np.abs(sums) <= 1e-9 * size, 0.0, sums)
