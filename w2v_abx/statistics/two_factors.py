"""Explain an outcome by two factors: standardised regression, and what each explains alone, on top and in common."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["TwoFactors", "slope_within", "two_factors"]

Floats = npt.NDArray[np.float64]

ALIKE = 1e-12  # of a variance, or of 1 − r², what rounding leaves of none


class TwoFactors(NamedTuple):
    """A regression of an outcome on two factors, all standardised; NaN where one of them does not vary.

    Attributes:
        r_first, r_second: correlations with the outcome, whose squares are R² of each alone.
        r_factors: correlation of the factors.
        beta_first, beta_second: standardised weights in the regression on both; NaN where the factors are one.
        both: R² of both.
        unique_first, unique_second: what R² loses without it.
        common: what of R² is nobody's own (commonality analysis; Mood, 1971; Nimon and Oswald, 2013): below zero where
            one factor hides what the other explains. The three add up to ``both``.
    """

    r_first: Floats
    r_second: Floats
    r_factors: Floats
    beta_first: Floats
    beta_second: Floats
    both: Floats
    unique_first: Floats
    unique_second: Floats
    common: Floats


def two_factors(outcome: Floats, first: Floats, second: Floats, weights: Floats) -> TwoFactors:
    """Regress an ``outcome`` on two factors, within groups: each is taken as its difference from its group's mean.

    Args:
        outcome, first, second: (…, G, N) values of N units in each of G groups.
        weights: (…, G, N), not negative; a value with weight 0 is not looked at, and may be NaN.

    Returns:
        Arrays (…): one regression for all groups.
    """
    y, a, b = (_centred(values, weights, (-1,)) for values in (outcome, first, second))
    yy, aa, bb, ya, yb, ab = (
        (weights * left * right).sum((-2, -1)) for left, right in ((y, y), (a, a), (b, b), (y, a), (y, b), (a, b))
    )
    r_first, r_second, r_factors = (_ratio(c, np.sqrt(s * t)) for c, s, t in ((ya, yy, aa), (yb, yy, bb), (ab, aa, bb)))
    left = 1 - r_factors**2
    beta_first, beta_second = _ratio(r_first - r_second * r_factors, left), _ratio(r_second - r_first * r_factors, left)
    both = beta_first * r_first + beta_second * r_second
    unique_first, unique_second = both - r_second**2, both - r_first**2
    return TwoFactors(
        r_first,
        r_second,
        r_factors,
        beta_first,
        beta_second,
        both,
        unique_first,
        unique_second,
        both - unique_first - unique_second,
    )


def slope_within(outcome: Floats, factor: Floats, weights: Floats) -> Floats:
    """Find by how much the outcome of one unit rises with the factor, from group to group: groups and units are levels.

    Args:
        outcome, factor: (…, G, N) values of N units in each of G groups.
        weights: (…, G, N), a product of weights of groups and of units; a unit with weight 0 may be NaN.
    """
    y, x = (_centred(_centred(values, weights, (-1,)), weights, (-2,)) for values in (outcome, factor))
    return _ratio((weights * x * y).sum((-2, -1)), (weights * x * x).sum((-2, -1)))


def _centred(values: Floats, weights: Floats, over: tuple[int, ...]) -> Floats:
    """Subtract weighted means; what has weight 0 becomes 0."""
    there = weights > 0
    known = np.where(there, values, 0.0)
    total = weights.sum(over, keepdims=True)
    mean = (weights * known).sum(over, keepdims=True) / np.where(total > 0, total, 1.0)
    centred = np.where(there, known - mean, 0.0)
    # What rounding leaves of values that are all alike is no difference.
    return np.where(np.abs(centred) > ALIKE * (1 + np.abs(mean)), centred, 0.0)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > ALIKE)
