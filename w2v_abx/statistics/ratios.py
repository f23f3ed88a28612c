"""The interval of a ratio of sums over units such as speakers: an accuracy, an error rate."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from w2v_abx.statistics.intervals import ALPHA

__all__ = ["correlation_interval", "difference_interval", "jackknife_interval", "jackknife_reach", "ratio_interval"]

ALIKE = 1e-12  # what rounding leaves between values that are equal


def ratio_interval(numerators: npt.ArrayLike, denominators: npt.ArrayLike) -> tuple[float, float] | None:
    """Find the 95 % interval of the sum of ``numerators`` (N,) over that of ``denominators`` (N,), both of N units.

    Units without a denominator do not count. None: fewer than two are left. See `jackknife_interval`.
    """
    above, below = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    above, below = above[below > 0], below[below > 0]
    if len(below) < 2:
        return None
    return jackknife_interval(above.sum() / below.sum(), (above.sum() - above) / (below.sum() - below))


def difference_interval(
    first: npt.ArrayLike, second: npt.ArrayLike, denominators: npt.ArrayLike
) -> tuple[float, float] | None:
    """Find the 95 % interval of how much more the sum of ``second`` is than that of ``first``, over ``denominators``.

    Each is (N,) of N units, as in `ratio_interval`; the interval is symmetric.
    """
    more, below = (
        np.asarray(second, dtype=float) - np.asarray(first, dtype=float),
        np.asarray(denominators, dtype=float),
    )
    more, below = more[below > 0], below[below > 0]
    if len(below) < 2:
        return None
    value, reach = more.sum() / below.sum(), jackknife_reach((more.sum() - more) / (below.sum() - below))
    return None if reach is None else (float(value - reach), float(value + reach))


def jackknife_interval(value: float, left_out: Sequence[float] | npt.ArrayLike) -> tuple[float, float] | None:
    """Find the 95 % interval of a value from what it is without each of N units in turn, (N,).

    It is symmetric on the scale of log odds for a value below 1, as the intervals of ABX errors are, and on that of
    logarithms above. None: see `jackknife_reach`.
    """
    half = jackknife_reach(left_out)
    if half is None:
        return None
    reach = np.array([-half, half])
    if value < 1:
        low, high = special.expit(special.logit(value) + reach / (value * (1 - value)))
    else:
        low, high = value * np.exp(reach / value)
    return float(low), float(high)


def correlation_interval(value: float, left_out: Sequence[float] | npt.ArrayLike) -> tuple[float, float] | None:
    """Find the 95 % interval of a correlation likewise; it is symmetric on Fisher's scale, and may lie below 0."""
    half = jackknife_reach(left_out)
    if half is None or abs(value) >= 1:
        return None
    low, high = np.tanh(np.arctanh(value) + np.array([-half, half]) / (1 - value**2))
    return float(low), float(high)


def jackknife_reach(left_out: Sequence[float] | npt.ArrayLike) -> float | None:
    """Find how far a 95 % interval reaches to either side of a value that is ``left_out`` without each of N units.

    The delete-one jackknife's standard error (Efron & Stein, 1981, *The jackknife estimate of variance*) times
    Student's quantile for N - 1 degrees of freedom. None: fewer than two units, or all are alike, which tells nothing
    of how others differ.
    """
    without = np.asarray(left_out, dtype=float)
    n = len(without)
    if n < 2 or np.ptp(without) < ALIKE:
        return None
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    return float(stats.t.isf(ALPHA / 2, n - 1) * error)
