"""Directions of a space in which two labels differ, such as speaker and phone, and how orthogonal they are.

After Liu, Tang and Goldwater (2023), "Self-supervised predictive coding models encode speaker and phonetic information
in orthogonal subspaces": principal directions of speakers' means and of phones' means. Here means are what each label
adds (see `effects`), as speakers say different phones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from w2v_abx.statistics.ratios import jackknife_reach

__all__ = ["Orthogonality", "directions", "effects", "orthogonality", "overlap", "share_within"]

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

GROUPS = 20  # of speakers, each left out in turn
ROUNDING = 1e-10  # of the largest variance: below, a direction is none


@dataclass(frozen=True)
class Orthogonality:
    """How orthogonal the directions of two labels are.

    Attributes:
        dims: of the space.
        first, second: directions of each.
        overlap: mean square cosine of the principal angles: 0, orthogonal, to 1, one within the other.
        low, high: its 95 % interval over units; None: fewer than two.
        floor: mean overlap of the first's directions with as many as the second has, of classes permuted over points
            that lack the effects of both: what the shape of the cloud within classes alone gives.
        random: overlap of random subspaces of so many directions, of all those of the space.
        angle: the smallest principal angle, degrees.
        taken: share of the variance between classes of the second label that lies in the directions of the first.
    """

    dims: int
    first: int
    second: int
    overlap: float
    low: float | None
    high: float | None
    floor: float
    random: float
    angle: float
    taken: float


def effects(vectors: Doubles, first: Integers, second: Integers) -> tuple[Doubles, Doubles]:
    """Find what each class of two labels adds to vectors (N, D), by least squares: analysis of variance of two ways.

    Where all classes come together equally often, it is the class's mean less that of all; else one label's effects
    are free of how often the other's classes come with it. Labels are (N,) from 0; each class has a point.

    Returns:
        (K, D) of the first and (M, D) of the second; each sums to zero.
    """
    design = sparse.hstack([_one_hot(first), _one_hot(second)], format="csr")
    gram, products = (design.T @ design).toarray(), design.T @ vectors
    found, *_ = linalg.lstsq(gram, products, cond=ROUNDING, lapack_driver="gelsy")
    split = int(first.max()) + 1
    of_first, of_second = found[:split], found[split:]
    return of_first - of_first.mean(0), of_second - of_second.mean(0)


def directions(means: Doubles, share: float) -> Doubles:
    """Find the fewest principal directions of class means (K, D) that hold a ``share`` of their variance.

    Returns:
        (D, r) orthonormal; none where the means are all alike.
    """
    _, sizes, rows = np.linalg.svd(means - means.mean(0), full_matrices=False)
    variances = np.square(sizes)
    if variances[0] <= ROUNDING * np.square(means).max(initial=np.finfo(np.float64).tiny):
        return np.zeros((means.shape[1], 0))
    held = np.cumsum(variances) / variances.sum()
    return np.ascontiguousarray(rows[: int(np.searchsorted(held, share - ROUNDING)) + 1].T)


def overlap(first: Doubles, second: Doubles) -> float:
    """Compute the mean square cosine of the principal angles of two subspaces, (D, r) and (D, s) orthonormal."""
    return float(np.square(first.T @ second).sum() / min(first.shape[1], second.shape[1]))


def share_within(means: Doubles, subspace: Doubles) -> float:
    """Compute how much of the variance between class means (K, D) lies in a subspace (D, r) orthonormal."""
    centred = means - means.mean(0)
    return float(np.square(centred @ subspace).sum() / np.square(centred).sum())


def orthogonality(
    vectors: npt.NDArray[np.floating],
    first: Integers,
    second: Integers,
    *,
    share: float = 0.95,
    permutations: int = 10,
    seed: int = 0,
) -> Orthogonality | None:
    """Measure how orthogonal the directions of two labels of vectors (N, D) are.

    Args:
        first: the label (N,) from 0 whose classes are the units of the interval: speakers.
        second: (N,) from 0: phones.
        share: of the variance between classes that the directions of each hold.
        permutations: of the second label, for the floor.
        seed: of these, and of groups of more than `GROUPS` units.

    Returns:
        None: the classes of one of them do not differ.
    """
    points = vectors.astype(np.float64)
    points -= points.mean(0)
    random = np.random.default_rng(seed)
    of_first, of_second = effects(points, first, second)
    subspaces = directions(of_first, share), directions(of_second, share)
    first_size, second_size = (found.shape[1] for found in subspaces)
    if not first_size or not second_size:
        return None
    value = overlap(*subspaces)
    floors = []
    neither = points - of_first[first] - of_second[second]
    for _ in range(permutations):
        permuted = effects(neither, first, random.permutation(second))[1]
        principal = np.linalg.svd(permuted, full_matrices=False)[2][:second_size].T
        floors.append(overlap(subspaces[0], principal))
    reach = jackknife_reach([*_left_out(points, first, second, share, random)])
    dims = points.shape[1]
    return Orthogonality(
        dims,
        first_size,
        second_size,
        value,
        None if reach is None else max(value - reach, 0.0),
        None if reach is None else min(value + reach, 1.0),
        float(np.mean(floors)),
        max(first_size, second_size) / dims,
        float(np.degrees(linalg.subspace_angles(*subspaces).min())),
        share_within(of_second, subspaces[0]),
    )


def _left_out(
    points: Doubles, first: Integers, second: Integers, share: float, random: np.random.Generator
) -> Iterator[float]:
    """The overlap without each group of units, as far as two units and two classes are left."""
    units = random.permutation(int(first.max()) + 1)
    for group in np.array_split(units, min(GROUPS, len(units))):
        kept = ~np.isin(first, group)
        codes = [np.unique(label[kept], return_inverse=True)[1] for label in (first, second)]
        if min(int(code.max(initial=0)) for code in codes) > 0:
            subspaces = [directions(found, share) for found in effects(points[kept], *codes)]
            if all(found.shape[1] for found in subspaces):
                yield overlap(*subspaces)


def _one_hot(codes: Integers) -> sparse.csr_array:
    ones, rows = np.ones(len(codes)), np.arange(len(codes))
    return sparse.csr_array((ones, (rows, codes)), shape=(len(codes), int(codes.max()) + 1))
