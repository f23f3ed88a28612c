"""Lay clouds of vectors out in a plane, and say whether what is near there is alike."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Agreement", "Doubles", "Neighbours", "centred", "nearest_elsewhere", "pca", "umap"]

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NEAREST = 10  # neighbours of a point
ROWS = 1024  # whose distances to all others are in memory at once


def centred(vectors: npt.NDArray[Any]) -> Doubles:
    """Subtract from vectors (N, D) their mean, in float64."""
    exact = vectors.astype(np.float64)
    return exact - exact.mean(axis=0)


def pca(clouds: Sequence[Doubles]) -> list[Doubles]:
    """Project clouds (N, D) onto the first two principal components of all of them together, each (N, 2)."""
    from sklearn.decomposition import PCA

    fitted = PCA(2, svd_solver="full").fit(np.concatenate(clouds))
    return [fitted.transform(cloud) for cloud in clouds]


def umap(clouds: Sequence[Doubles], *, metric: str, neighbours: int, min_dist: float, seed: int) -> list[Doubles]:
    """Lay clouds (N, D) out together by UMAP (McInnes, Healy and Melville, 2018), each (N, 2).

    In one thread: several would give another picture each time.
    """
    from umap import UMAP

    embedding = UMAP(
        n_components=2, n_neighbors=neighbours, min_dist=min_dist, metric=metric, random_state=seed, n_jobs=1
    )
    placed = embedding.fit_transform(np.concatenate(clouds)).astype(np.float64)
    return np.split(placed, np.cumsum([len(cloud) for cloud in clouds])[:-1])


class Agreement(NamedTuple):
    """Share of neighbours that are of a point's own class, what it would be of random ones, and points counted."""

    share: float
    chance: float
    points: int


class Neighbours(NamedTuple):
    """The nearest points of each, (N, K), -1 where there are no more; and the number of each one's file, (N,)."""

    nearest: Integers
    files: Integers

    def agreement(self, codes: Integers) -> Agreement | None:
        """Count neighbours of a point's own class, where both have one (``codes`` (N,), -1: none).

        None: no point has a neighbour with a class.
        """
        counted = (self.nearest >= 0) & (codes[self.nearest] >= 0) & (codes >= 0)[:, None]
        rows = np.flatnonzero(counted.any(axis=1))
        if not len(rows):
            return None
        same = (codes[self.nearest] == codes[:, None]) & counted
        shares = same[rows].sum(axis=1) / counted[rows].sum(axis=1)
        return Agreement(float(shares.mean()), self._chance(codes, rows), len(rows))

    def _chance(self, codes: Integers, rows: Integers) -> float:
        """Compute the share of points of the same class among all those of other files."""
        has = codes >= 0
        counts = np.zeros((self.files.max() + 1, codes.max() + 1))
        np.add.at(counts, (self.files[has], codes[has]), 1)
        elsewhere = (counts.sum(axis=0) - counts)[self.files[rows]]
        return float((elsewhere[np.arange(len(elsewhere)), codes[rows]] / elsewhere.sum(axis=1)).mean())


def nearest_elsewhere(vectors: Doubles, files: Integers, metric: str) -> Neighbours:
    """Find the nearest points of each in other files: in its own, they are near for more than their class.

    Args:
        vectors: (N, D).
        files: (N,) the number of each point's file.
        metric: "cosine" or "euclidean".
    """
    from sklearn.metrics import pairwise_distances

    found = np.full((len(vectors), min(NEAREST, len(vectors) - 1)), -1, dtype=np.int64)
    for start in range(0, len(vectors), ROWS):
        rows = slice(start, start + ROWS)
        distances = pairwise_distances(vectors[rows], vectors, metric=metric)
        distances[files[rows][:, None] == files] = np.inf
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : found.shape[1]]
        found[rows] = np.where(np.isfinite(np.take_along_axis(distances, nearest, axis=1)), nearest, -1)
    return Neighbours(found, files)
