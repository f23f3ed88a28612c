"""Correlation of two sets of variables: CCA, SVCCA, PWCCA and linear CKA, in the sample and held out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from w2v_abx.analysis.correlation.moments import Side, Sums

__all__ = [
    "Canonical",
    "HeldOut",
    "canonical",
    "cka",
    "covariance",
    "held_out",
    "mean",
    "overlap",
    "projection_weighted",
]

Floats = npt.NDArray[np.float64]

NOTHING = 1e-9  # what rounding leaves of a sum of squares that are of the size of 1
# The side without some folds, and how their variables covary there.
Fitted = tuple[Side, Side, Floats]


@dataclass(frozen=True)
class Canonical:
    """Canonical correlations (k,), descending, and the weights of their variates of unit variance: (D, k), (E, k)."""

    correlations: Floats
    x: Floats
    y: Floats


def covariance(x: Side, y: Side, products: Floats, n: float) -> Floats:
    """Compute the covariance (D, E) from sums of products over ``n`` points."""
    return products / n - np.outer(x.mean, y.mean)


def canonical(x: Side, y: Side, cov: Floats, ridge: float = 0.0) -> Canonical:
    """Correlate two sets of variables canonically (Hotelling, 1936).

    As many correlations as the smaller rank; none where one side is constant. With a side that is `Side.kept` these
    are those of SVCCA (Raghu et al., 2017).

    Args:
        ridge: is added to the variances of x.
    """
    sizes, whiten_y = np.sqrt(x.variances + ridge)[:, None], y.directions / np.sqrt(y.variances)
    left, values, right = np.linalg.svd(x.directions.T @ (cov @ whiten_y) / sizes, full_matrices=False)
    own = np.sqrt(x.variances / sizes[:, 0] ** 2 @ np.square(left))
    return Canonical(np.clip(values, 0, 1), x.directions @ (left / sizes / own), whiten_y @ right.T)


def mean(correlations: Floats) -> float:
    """Average canonical correlations; 0 where there is none, for what is constant has nothing in common."""
    return float(correlations.mean()) if len(correlations) else 0.0


def shares(x: Side, y: Side, found: Canonical) -> Floats:
    """Compute how much of a side each canonical variate accounts for, (k,), which PWCCA weights by.

    The side is that with fewer variables: Σⱼ |⟨hᵢ, xⱼ⟩| of variate hᵢ and variable xⱼ.
    """
    side, weights = (y, found.y) if y.dims <= x.dims else (x, found.x)
    return np.abs(side.covary(weights)).sum(0)


def projection_weighted(x: Side, y: Side, found: Canonical) -> float:
    """Compute PWCCA (Morcos et al., 2018): the mean of canonical correlations, weighted by `shares`."""
    weights = shares(x, y, found)
    return float(weights @ found.correlations / weights.sum()) if weights.sum() > 0 else 0.0


def cka(x: Side, y: Side, cov: Floats) -> float:
    """Compute linear CKA (Kornblith et al., 2019): ‖Sxy‖² / (‖Sxx‖ ‖Syy‖); 0 where a side is constant."""
    size = x.size * y.size
    return float(np.square(cov).sum() / size) if size > 0 else 0.0


def overlap(side: Side, one: Floats, other: Floats) -> float:
    """Correlate two sets of variates (D, k) of the same variables canonically, and average."""
    size = [Sums(1.0, np.zeros(weights.shape[1]), weights.T @ side.covary(weights)) for weights in (one, other)]
    if not (one.shape[1] and other.shape[1]):
        return 0.0
    return mean(canonical(Side.of(size[0]), Side.of(size[1]), one.T @ side.covary(other)).correlations)


@dataclass(frozen=True)
class HeldOut:
    """Second moments of canonical variates on points that they were not fitted to, and the weight of each, (F, k).

    A fold that could not be tested has zeros throughout.
    """

    xx: Floats
    yy: Floats
    xy: Floats
    weights: Floats
    ridges: Sequence[float]

    def value(self, without: int | None = None, weighted: bool = False) -> float:
        """Average the correlations over all folds, or over all but one; ``weighted``: as PWCCA."""
        used = [fold for fold in self.tested if fold != without]
        xx, yy, xy = (part[used].sum(0) for part in (self.xx, self.yy, self.xy))
        size = np.sqrt(xx * yy)
        found = np.divide(xy, size, out=np.zeros_like(xy), where=size > 0)
        weights = self.weights[used].sum(0) if weighted else np.ones(len(found))
        return float(weights @ found / weights.sum()) if weights.sum() > 0 else 0.0

    @property
    def tested(self) -> list[int]:
        """The folds that could be tested."""
        return np.flatnonzero((self.yy > NOTHING).any(1)).tolist()


def held_out(
    xs: Sequence[Sums],
    ys: Sequence[Sums],
    products: Sequence[Floats],
    fit: Callable[[tuple[int, ...]], Fitted],
    ridges: Sequence[Sequence[float]],
    *,
    one_hot: bool,
    own_means: bool,
) -> HeldOut:
    """Fit canonical variates without each fold in turn, and measure on it how they correlate.

    The ridge, in units of the mean variance of x, is that with the highest correlations on another fold, which is
    left out of the fit, too (Pasad et al., 2021); of two folds neither can choose: the middle one is taken.

    Args:
        xs, ys, products: of each fold, sums of each side and of their products (D, E).
        fit: give both sides and their covariance without some folds.
        ridges: of each fold, those that it may choose from.
        one_hot: y is one-hot: a class that was not there in the fit has the variates' mean.
        own_means: centre variates by their means in each fold, so that what all of its points share, as the voice of a
            speaker, does not count; else by those of what they were fitted to, as a label that has one value in a fold
            needs.
    """
    number = len(xs)
    tests: list[tuple[Floats, Floats, Floats, Floats]] = []
    chosen: list[float] = []

    def test(fold: int, x: Side, y: Side, found: Canonical) -> tuple[Floats, Floats, Floats]:
        n = max(xs[fold].n, 1.0)
        means = (xs[fold].x / n, ys[fold].x / n) if own_means else (x.mean, y.mean)
        return _moments(xs[fold], ys[fold], products[fold], *means, found)

    fits: dict[tuple[int, ...], tuple[Side, Side, dict[float, Canonical]]] = {}
    for fold in range(number):
        dev = fold ^ 1 if fold ^ 1 < number else 0  # folds in pairs, which then share a fit
        without = tuple(sorted((fold, dev))) if number > 2 else (fold,)
        if without not in fits:
            x, y, cov = fit(without)
            fits[without] = x, y, _fit_all(x, y, cov, {*ridges[fold], *ridges[dev]}, one_hot)
        x, y, every = fits[without]
        given = sorted(ridges[fold])
        best = given[len(given) // 2]
        if number > 2 and len(given) > 1 and ys[dev].n:
            scores = {ridge: _score(test(dev, x, y, every[ridge])) for ridge in given}
            best = max(given, key=lambda ridge: round(scores[ridge], 9))  # of those that are alike, the least
        found = every[best]
        weights = shares(x, y, found)
        tests.append((*test(fold, x, y, found), weights / (weights.sum() or 1)))
        chosen.append(best)
    xx, yy, xy, weights = (_padded([found[part] for found in tests]) for part in range(4))
    return HeldOut(xx, yy, xy, weights, chosen)


def _fit_all(x: Side, y: Side, cov: Floats, ridges: Collection[float], one_hot: bool) -> dict[float, Canonical]:
    """Fit with each ridge, which is in units of the mean variance of x."""
    unit = x.variances.sum() / x.dims
    return {ridge: _centred(canonical(x, y, cov, ridge * unit), y, one_hot) for ridge in ridges}


def _centred(found: Canonical, y: Side, one_hot: bool) -> Canonical:
    """Give classes that are there weights of mean 0, which is what those that are not there have."""
    if not one_hot:
        return found
    there = (y.mean > 0)[:, None]
    return Canonical(found.correlations, found.x, np.where(there, found.y - y.mean @ found.y, 0.0))


def _moments(
    xs: Sums, ys: Sums, products: Floats, x_mean: Floats, y_mean: Floats, found: Canonical
) -> tuple[Floats, Floats, Floats]:
    """Sum xx, yy and xy of canonical variates (k,), less their means, over a fold's points."""
    u, v = xs.x @ found.x, ys.x @ found.y
    mu, mv = x_mean @ found.x, y_mean @ found.y
    xx = ((xs.xx @ found.x) * found.x).sum(0) - 2 * mu * u + xs.n * mu**2
    yy = ((ys.xx @ found.y) * found.y).sum(0) - 2 * mv * v + xs.n * mv**2
    return xx, yy, ((products @ found.y) * found.x).sum(0) - mu * v - mv * u + xs.n * mu * mv


def _score(moments: tuple[Floats, Floats, Floats]) -> float:
    xx, yy, xy = (part[None] for part in moments)
    return HeldOut(xx, yy, xy, np.ones_like(xx), []).value()


def _padded(rows: Sequence[Floats]) -> Floats:
    return np.array(list(zip_longest(*rows, fillvalue=0.0))).T.reshape(len(rows), -1)
