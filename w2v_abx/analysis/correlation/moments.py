"""Sums over points, from which correlations are computed: of points and of their products, by fold and by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from w2v_abx.analysis.points import Points
from w2v_abx.features.store import FeatureStore

__all__ = ["CellSums", "Side", "Sums", "add_up", "cross_products"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CHUNK = 16_384  # points in float64 at once
ROUNDING = 10 * np.finfo(np.float64).eps  # per dimension, of the largest variance: no direction, but rounding


@dataclass(frozen=True)
class Sums:
    """Sums over ``n`` points of D variables: ``x`` (D,), and ``xx`` (D, D) of their products; they add up."""

    n: float
    x: Floats
    xx: Floats

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.n + other.n, self.x + other.x, self.xx + other.xx)

    @classmethod
    def of_counts(cls, counts: Floats) -> "Sums":
        """The sums of one-hot variables, from how often each is one, (K,)."""
        return cls(float(counts.sum()), counts, np.diag(counts))


@dataclass(frozen=True)
class Side:
    """One of two sets of variables that are correlated: their ``mean`` (D,), and the directions in which they vary.

    Attributes:
        variances: (r,) descending, without those that are but rounding: none, where the variables are constant.
        directions: (D, r) orthonormal.
    """

    mean: Floats
    variances: Floats
    directions: Floats

    @classmethod
    def of(cls, sums: Sums) -> "Side":
        mean = sums.x / sums.n
        variances, directions = np.linalg.eigh(sums.xx / sums.n - np.outer(mean, mean))
        variances, directions = variances[::-1], directions[:, ::-1]
        # Rounding is of the size of what was subtracted, too.
        size = max(variances[0], 0.0) + np.square(mean).max()
        there = variances > size * len(mean) * ROUNDING
        return cls(mean, variances[there], directions[:, there])

    def kept(self, share: float) -> "Side":
        """Keep the fewest leading directions that have a ``share`` of the variance."""
        if not len(self.variances):
            return self
        shares = np.cumsum(self.variances) / self.variances.sum()
        number = int(np.searchsorted(shares, share * (1 - 1e-12))) + 1
        return Side(self.mean, self.variances[:number], self.directions[:, :number])

    @property
    def dims(self) -> int:
        return len(self.mean)

    @cached_property
    def size(self) -> float:
        """Frobenius norm of the covariance."""
        return float(np.sqrt(np.square(self.variances).sum()))

    def covary(self, weights: Floats) -> Floats:
        """Multiply the covariance by (D, k)."""
        return self.directions @ (self.variances[:, None] * (self.directions.T @ weights))


class CellSums(NamedTuple):
    """Sums of a layer's vectors: of each cell, ``n`` (C,), ``x`` (C, D) and ``xx`` (C, D, D); and of each row of
    ``members``, ``classes`` (R, D). The first point's vector has been subtracted from all."""

    n: Floats
    x: Floats
    xx: Floats
    classes: Floats


def add_up(points: Points, store: FeatureStore, layer: int, cells: Integers, number: int, members: Any) -> CellSums:
    """Add up a layer's vectors in one pass.

    Args:
        points: of which all of an item are in one cell.
        cells: (items,) that each item's points are in; of ``number``.
        members: sparse (items, R): 1 where an item's points count for a row.
    """
    dim = store.identity.dim
    sums = CellSums(
        np.bincount(cells[points.item], minlength=number).astype(np.float64),
        np.zeros((number, dim)),
        np.zeros((number, dim, dim)),
        np.zeros((members.shape[1], dim)),
    )
    first: npt.NDArray[Any] | None = None
    # New memory for each chunk takes longer than to order and to subtract.
    room, ordered = np.empty((CHUNK, dim)), np.empty((CHUNK, dim), dtype=np.float32)
    for part, vectors in points.batches(store, layer):
        first = vectors[0].astype(np.float64) if first is None else first
        for start in range(0, len(vectors), CHUNK):
            chunk, item = vectors[start : start + CHUNK], points.item[part][start : start + CHUNK]
            place = cells[item]
            if (np.diff(place) < 0).any():
                order = np.argsort(place, kind="stable")
                chunk = np.take(chunk, order, axis=0, out=ordered[: len(chunk)], mode="clip")  # raise: by way of a copy
                item, place = item[order], place[order]
            _add(sums, np.subtract(chunk, first, out=room[: len(chunk)]), item, place, members)
    return sums


def _add(sums: CellSums, vectors: Floats, item: Integers, cell: Integers, members: Any) -> None:
    """Add vectors that are ordered by cell, and within it by item."""
    begins = np.diff(item, prepend=-1) != 0
    by_item = _sum_rows(vectors, np.cumsum(begins) - 1)
    sums.classes[:] += members[item[begins]].T @ by_item
    sums.x[:] += _sum_rows(by_item, cell[begins], len(sums.x))
    for begin, end in pairwise(np.flatnonzero(np.diff(cell, prepend=-1, append=-1))):
        own = vectors[begin:end]
        sums.xx[cell[begin]] += own.T @ own


def _sum_rows(vectors: Floats, groups: Integers, number: int | None = None) -> Floats:
    """Add up the vectors of each group."""
    from scipy.sparse import csr_matrix

    number = int(groups[-1]) + 1 if number is None else number
    members = csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(number, len(groups)))
    total: Floats = members @ vectors
    return total


def cross_products(
    points: Points, stores: Sequence[FeatureStore], layers: Sequence[int], cells: Integers, number: int
) -> Floats:
    """Add up the products of the vectors of two models in each cell, (C, D, E); see `add_up`."""
    total = np.zeros((number, stores[0].identity.dim, stores[1].identity.dim))
    firsts: list[Floats] = []
    pairs = zip(*(points.batches(store, layer) for store, layer in zip(stores, layers, strict=True)), strict=True)
    for (part, one), (_, other) in pairs:
        firsts = firsts or [one[0].astype(np.float64), other[0].astype(np.float64)]
        place = cells[points.item[part]]
        for cell in np.unique(place):
            rows = np.flatnonzero(place == cell)
            for start in range(0, len(rows), CHUNK):
                own = rows[start : start + CHUNK]
                total[cell] += (one[own] - firsts[0]).T @ (other[own] - firsts[1])
    return total
