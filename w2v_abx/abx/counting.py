"""Counting triplets by rank, over the distances of a batch (numba kernels, as in :mod:`w2v_abx.abx.alignment`).

The arguments are those of :class:`w2v_abx.abx.engine.Batch`: the distance of item x of group g to item y lies at
``base[g] + x * columns[g] + y``.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["count", "sort"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def sort(starts: Integers, base: Integers, columns: Integers, panel: Integers, g: Integers, h: Integers, first: int,
         last: int, distances: Floats) -> None:  # fmt: skip
    """Sort the distances of each item to each group that it is compared with, for pairs of groups first:last."""
    for pair in range(first, last):
        gg, hh = g[pair], h[pair]
        _sort_rows(starts, base, columns, gg, hh, distances)
        if gg != hh and panel[gg] == panel[hh]:
            _sort_rows(starts, base, columns, hh, gg, distances)


@njit(cache=True, nogil=True)
def _sort_rows(starts: Integers, base: Integers, columns: Integers, g: int, h: int, distances: Floats) -> None:
    for x in range(starts[g], starts[g + 1]):
        at = base[g] + x * columns[g]
        row = distances[at + starts[h] : at + starts[h + 1]]
        # Shell's sort with Knuth's gaps: rows are short, and a library sort takes longer to compile than all else here.
        gap = 1
        while 9 * gap < len(row):
            gap = 3 * gap + 1
        while gap > 0:
            for i in range(gap, len(row)):
                value = row[i]
                j = i
                while j >= gap and row[j - gap] > value:
                    row[j] = row[j - gap]
                    j -= gap
                row[j] = value
            gap //= 3


@njit(cache=True, nogil=True)
def count(starts: Integers, base: Integers, columns: Integers, a: Integers, b: Integers, x: Integers, cell: Integers,
          first: int, last: int, distances: Floats, lost: Integers, delta_sum: Doubles, delta_square_sum: Doubles,
          distance_mean: Doubles) -> None:  # fmt: skip
    """Merge the sorted distances of each X to the A and to the B of its cell, for cells first:last of the batch."""
    for k in range(first, last):
        ga, gb, gx = a[k], b[k], x[k]
        # Where A and X are one group, the last of the sorted distances is that of X to itself.
        na = starts[ga + 1] - starts[ga] - (1 if ga == gx else 0)
        nb = starts[gb + 1] - starts[gb]
        wrong = 0
        delta = square = distance = 0.0
        for item in range(starts[gx], starts[gx + 1]):
            at = base[gx] + item * columns[gx]
            to_a = distances[at + starts[ga] : at + starts[ga] + na]
            to_b = distances[at + starts[gb] : at + starts[gb + 1]]
            sum_a = sum_b = square_a = square_b = 0.0
            for value in to_b:
                sum_b += value
                square_b += np.float64(value) * np.float64(value)
            below = 0  # how many B are nearer than this A, and how many at most as far
            up_to = 0
            for value in to_a:
                sum_a += value
                square_a += np.float64(value) * np.float64(value)
                while below < nb and to_b[below] < value:
                    below += 1
                up_to = max(up_to, below)
                while up_to < nb and to_b[up_to] <= value:
                    up_to += 1
                wrong += below + up_to
            delta += na * sum_b - nb * sum_a
            square += na * square_b - 2.0 * sum_a * sum_b + nb * square_a
            distance += nb * sum_a + na * sum_b
        size = na * nb * (starts[gx + 1] - starts[gx])
        lost[cell[k]] = wrong
        delta_sum[cell[k]] = delta
        delta_square_sum[cell[k]] = max(square, 0.0)
        distance_mean[cell[k]] = distance / (2.0 * size)
