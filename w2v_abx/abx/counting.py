"""Count triplets by rank, over the distances of a batch (numba kernels, as in :mod:`w2v_abx.abx.dtw`).

Where the distances lie, a :class:`w2v_abx.abx.blocks.Layout` says.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["Results", "count", "count_constrained", "find", "sort", "valid"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Results(NamedTuple):
    """What scoring gives, in the order of the cells and of the sampled triplets.

    Attributes:
        lost: (C,) twice the number of triplets answered wrongly, a tie counting one.
        delta_sum, delta_square_sum: (C,) sums over triplets of d(B, X) − d(A, X) and of its square.
        distance_mean: (C,) mean over triplets of (d(A, X) + d(B, X)) / 2.
        deltas: (S,) of the sampled triplets.
    """

    lost: Integers
    delta_sum: Doubles
    delta_square_sum: Doubles
    distance_mean: Doubles
    deltas: Floats


@njit(cache=True, nogil=True)
def sort(layout: Any, g: Integers, h: Integers, first: int, last: int, distances: Floats) -> None:
    """Sort the distances of each item to each group that it is compared with, for pairs of groups first:last."""
    for pair in range(first, last):
        gg, hh = g[pair], h[pair]
        _sort_rows(layout, gg, hh, distances)
        if gg != hh and layout.block[gg] == layout.block[hh]:
            _sort_rows(layout, hh, gg, distances)


@njit(cache=True, nogil=True)
def _sort_rows(layout: Any, g: int, h: int, distances: Floats) -> None:
    starts = layout.starts
    for x in range(starts[g], starts[g + 1]):
        at = layout.base[g] + x * layout.columns[g]
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
def count(
    layout: Any, groups: Integers, cells: Integers, first: int, last: int, distances: Floats, results: Any
) -> None:
    """Merge the sorted distances of each X to the A and to the B of its cell, for cells first:last of the batch.

    Args:
        groups: (3, K) the groups of A, B and X of each of the batch's cells.
        cells: (K,) their numbers among all cells, by which ``results`` are written.
    """
    starts = layout.starts
    for k in range(first, last):
        ga, gb, gx = groups[0, k], groups[1, k], groups[2, k]
        # Where A and X are one group, the last of the sorted distances is that of X to itself.
        na = starts[ga + 1] - starts[ga] - (1 if ga == gx else 0)
        nb = starts[gb + 1] - starts[gb]
        wrong = 0
        delta = square = distance = 0.0
        for item in range(starts[gx], starts[gx + 1]):
            at = layout.base[gx] + item * layout.columns[gx]
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
        cell = cells[k]
        results.lost[cell] = wrong
        results.delta_sum[cell] = delta
        results.delta_square_sum[cell] = max(square, 0.0)
        results.distance_mean[cell] = distance / (2.0 * size)


@njit(cache=True, nogil=True)
def _pass(a: int, b: int, x: int, constraints: Any) -> bool:
    """Whether a triplet passes all tests."""
    codes, tests = constraints.codes, constraints.tests
    for test in range(len(tests)):
        left, right = tests[test, 1], tests[test, 3]
        one = codes[tests[test, 0], a if left == 0 else b if left == 1 else x]
        other = codes[tests[test, 2], a if right == 0 else b if right == 1 else x]
        if (one == other) != (tests[test, 4] == 1):
            return False
    return True


@njit(cache=True, nogil=True)
def _triplets(starts: Integers, groups: Integers, cell: int, constraints: Any) -> Any:
    """The triplets of a cell that fulfil constraints: A, B and X of each."""
    ga, gb, gx = groups[0, cell], groups[1, cell], groups[2, cell]
    for x in range(starts[gx], starts[gx + 1]):
        for a in range(starts[ga], starts[ga + 1]):
            if a != x:
                for b in range(starts[gb], starts[gb + 1]):
                    if _pass(a, b, x, constraints):
                        yield a, b, x


@njit(cache=True, nogil=True)
def valid(starts: Integers, groups: Integers, constraints: Any) -> Integers:
    """The number of triplets of each cell that fulfil constraints."""
    found = np.zeros(groups.shape[1], dtype=np.int64)
    for cell in range(len(found)):
        for _ in _triplets(starts, groups, cell, constraints):
            found[cell] += 1
    return found


@njit(cache=True, nogil=True)
def find(starts: Integers, groups: Integers, constraints: Any, cell: Integers, number: Integers) -> Integers:
    """The triplet ``number[k]`` of those of ``cell[k]`` that fulfil constraints: (3, K) its A, B and X, as places in
    their groups. Cells ascend, and numbers in a cell."""
    found = np.zeros((3, len(cell)), dtype=np.int64)
    k = 0
    while k < len(cell):
        c = cell[k]
        for place, (a, b, x) in enumerate(_triplets(starts, groups, c, constraints)):
            while k < len(cell) and cell[k] == c and number[k] == place:
                found[0, k], found[1, k] = a - starts[groups[0, c]], b - starts[groups[1, c]]
                found[2, k] = x - starts[groups[2, c]]
                k += 1
    return found


@njit(cache=True, nogil=True)
def count_constrained(
    layout: Any,
    groups: Integers,
    cells: Integers,
    constraints: Any,
    first: int,
    last: int,
    distances: Floats,
    results: Any,
) -> None:
    """As :func:`count`, of triplets that fulfil constraints, one by one; the distances are not sorted."""
    for k in range(first, last):
        wrong = size = 0
        delta = square = distance = 0.0
        for a, b, x in _triplets(layout.starts, groups, k, constraints):
            at = layout.base[groups[2, k]] + x * layout.columns[groups[2, k]]
            to_a, to_b = np.float64(distances[at + a]), np.float64(distances[at + b])
            wrong += 2 * (to_b < to_a) + (to_b == to_a)
            delta += to_b - to_a
            square += (to_b - to_a) * (to_b - to_a)
            distance += to_a + to_b
            size += 1
        cell = cells[k]
        results.lost[cell] = wrong
        results.delta_sum[cell] = delta
        results.delta_square_sum[cell] = square
        results.distance_mean[cell] = distance / (2.0 * size)
