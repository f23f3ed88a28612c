"""Linear probes: discriminant analysis, tested on folds that are held out and regularised on folds of the others."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg

__all__ = ["predict"]

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
FLAT = 1e-9  # the least variance, of total variances of one, that a classifier divides by


def predict(
    vectors: npt.NDArray[np.floating], labels: Sequence[Integers], folds: Integers, shrinkages: Sequence[float]
) -> list[Integers]:
    """Predict labels of points, each fold by a classifier that has seen the others only.

    The classifier is linear discriminant analysis (Fisher, 1936) of features that are scaled to a variance of one in
    training, with the covariance within classes shrunk towards a multiple of the identity. It is in closed form, from
    sums that all folds share. How much is shrunk is chosen for each fold by the accuracy on the next one, of a
    classifier that has seen neither; where there are two folds alone, it is the middle one of ``shrinkages``.

    Args:
        vectors: (N, D).
        labels: each (N,) of classes from 0.
        folds: (N,) from 0, none empty, at least two.
        shrinkages: the shares to choose from, above 0, at most 1.

    Returns:
        (N,) for each label.
    """
    places = [np.flatnonzero(folds == fold) for fold in range(int(folds.max()) + 1)]
    centre = vectors.mean(0, dtype=np.float64)  # sums of squares of what lies far from zero lose digits
    parts = [vectors[place] - centre for place in places]
    squares = np.stack([part.T @ part for part in parts])
    found = []
    for codes in labels:
        predicted = np.empty(len(codes), dtype=np.int64)
        guesses = _predict(parts, [codes[place] for place in places], squares, sorted(shrinkages, reverse=True))
        for place, guess in zip(places, guesses, strict=True):
            predicted[place] = guess
        found.append(predicted)
    return found


def _predict(
    parts: Sequence[Doubles], codes: Sequence[Integers], squares: Doubles, shrinkages: Sequence[float]
) -> Iterator[Integers]:
    classes = max(int(part.max()) for part in codes) + 1
    counts = np.stack([np.bincount(part, minlength=classes) for part in codes])
    sums = np.stack([np.eye(classes)[of_part].T @ part for of_part, part in zip(codes, parts, strict=True)])

    def fit(*left_out: int) -> _Classifier:
        seen = [part for part in range(len(parts)) if part not in left_out]
        return _Classifier(counts[seen].sum(0), sums[seen].sum(0), squares[seen].sum(0))

    for fold, part in enumerate(parts):
        shrinkage = shrinkages[len(shrinkages) // 2]
        if len(parts) > 2:
            valid = (fold + 1) % len(parts)
            classifier = fit(fold, valid)
            right = [(classifier(parts[valid], value) == codes[valid]).sum() for value in shrinkages]
            shrinkage = shrinkages[int(np.argmax(right))]  # the largest of those that are as good
        yield fit(fold)(part, shrinkage)


class _Classifier:
    """Classify by what was seen of each class, for any shrinkage.

    Args:
        counts: (K,) points of each class; one without any is never predicted.
        sums: (K, D) of their vectors.
        square: (D, D), the sum of the outer products of all vectors.
    """

    def __init__(self, counts: Integers, sums: Doubles, square: Doubles) -> None:
        number = counts.sum()
        means = sums / np.maximum(counts, 1)[:, None]
        self._centre = sums.sum(0) / number
        variances = np.diag(square) / number - self._centre**2
        varies = variances > FLAT * np.diag(square).max() / number
        self._scale = np.where(varies, 1 / np.sqrt(np.where(varies, variances, 1)), 0)
        self._within = (square - means.T @ sums) / number * np.outer(self._scale, self._scale)
        self._means = (means - self._centre) * self._scale
        with np.errstate(divide="ignore"):
            self._priors = np.log(counts / number)

    def __call__(self, points: Doubles, shrinkage: float) -> Integers:
        """Find the most probable class of each of some points (N, D): (N,)."""
        size = len(self._within)
        ridge = shrinkage * np.trace(self._within) / size
        covariance = (1 - shrinkage) * self._within + max(ridge, FLAT) * np.eye(size)
        weights = linalg.solve(covariance, self._means.T, assume_a="pos")
        bias = self._priors - (self._means.T * weights).sum(0) / 2
        weights *= self._scale[:, None]
        found: Integers = (points @ weights + (bias - self._centre @ weights)).argmax(1)
        return found
