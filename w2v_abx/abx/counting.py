"""Count triplets by rank, over the distances of a batch (numba kernels, as in :mod:`w2v_abx.abx.alignment`).

Where the distances lie, a :class:`w2v_abx.abx.blocks.Layout` says.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["CellGroups", "Results", "count", "count_constrained", "find", "sort", "valid"]

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


class CellGroups(NamedTuple):
    """The cells of a batch: (K,) their local groups of A, B and X, and their numbers among all cells."""

    a: Integers
    b: Integers
    x: Integers
    cell: Integers


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
def count(layout: Any, cells: Any, first: int, last: int, distances: Floats, results: Any) -> None:
    """Merge the sorted distances of each X to the A and to the B of its cell, for cells first:last of the batch."""
    starts = layout.starts
    for k in range(first, last):
        ga, gb, gx = cells.a[k], cells.b[k], cells.x[k]
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
        cell = cells.cell[k]
        results.lost[cell] = wrong
        results.delta_sum[cell] = delta
        results.delta_square_sum[cell] = max(square, 0.0)
        results.distance_mean[cell] = distance / (2.0 * size)


@njit(cache=True, nogil=True)
def _holds(test: int, a: int, b: int, x: int, constraints: Any) -> bool:
    """Whether the items of a triplet pass one test."""
    codes, tests = constraints.codes, constraints.tests
    left_role, right_role = tests[test, 1], tests[test, 3]
    one = codes[tests[test, 0], a if left_role == 0 else b if left_role == 1 else x]
    other = codes[tests[test, 2], a if right_role == 0 else b if right_role == 1 else x]
    return (one == other) == (tests[test, 4] == 1)


@njit(cache=True, nogil=True)
def _passing(role: int, first: int, last: int, x: int, constraints: Any, passing: Integers) -> int:
    """The items first:last that pass, as A or B of X, all tests that do not ask for the other; how many there are."""
    count, tests = 0, constraints.tests
    for item in range(first, last):
        # An item is never both A and X.
        passes = role == 1 or item != x
        for test in range(len(tests)):
            if passes and tests[test, 1] != 1 - role and tests[test, 3] != 1 - role:
                passes = _holds(test, item, item, x, constraints)
        if passes:
            passing[count] = item
            count += 1
    return count


@njit(cache=True, nogil=True)
def _between(tests: Integers) -> Integers:
    """The tests that ask for A and B."""
    count = 0
    chosen = np.empty(len(tests), dtype=np.int64)
    for test in range(len(tests)):
        if tests[test, 1] + tests[test, 3] == 1:
            chosen[count] = test
            count += 1
    return chosen[:count]


@njit(cache=True, nogil=True)
def _passes(a: int, b: int, constraints: Any, between: Integers) -> bool:
    passes = True
    for test in between:
        passes &= _holds(test, a, b, 0, constraints)
    return passes


@njit(cache=True, nogil=True)
def valid(starts: Integers, a: Integers, b: Integers, x: Integers, constraints: Any) -> Integers:
    """The number of triplets of each cell that fulfil constraints."""
    found = np.zeros(len(a), dtype=np.int64)
    as_a, as_b = np.empty(starts[-1], dtype=np.int64), np.empty(starts[-1], dtype=np.int64)
    between = _between(constraints.tests)
    for k in range(len(a)):
        for item in range(starts[x[k]], starts[x[k] + 1]):
            na = _passing(0, starts[a[k]], starts[a[k] + 1], item, constraints, as_a)
            nb = _passing(1, starts[b[k]], starts[b[k] + 1], item, constraints, as_b)
            if not len(between):
                found[k] += na * nb
                continue
            for i in range(na):
                for j in range(nb):
                    found[k] += _passes(as_a[i], as_b[j], constraints, between)
    return found


@njit(cache=True, nogil=True)
def find(
    starts: Integers, a: Integers, b: Integers, x: Integers, constraints: Any, cell: Integers, number: Integers
) -> Integers:
    """The triplet ``number[k]`` of those of ``cell[k]`` that fulfil constraints: its A, B and X, as places in their
    groups. Cells ascend, and numbers in a cell."""
    found = np.zeros((3, len(cell)), dtype=np.int64)
    as_a, as_b = np.empty(starts[-1], dtype=np.int64), np.empty(starts[-1], dtype=np.int64)
    between = _between(constraints.tests)
    k = 0
    while k < len(cell):
        c, passed = cell[k], 0
        for item in range(starts[x[c]], starts[x[c] + 1]):
            na = _passing(0, starts[a[c]], starts[a[c] + 1], item, constraints, as_a)
            nb = _passing(1, starts[b[c]], starts[b[c] + 1], item, constraints, as_b)
            for i in range(na):
                for j in range(nb):
                    if not _passes(as_a[i], as_b[j], constraints, between):
                        continue
                    while k < len(cell) and cell[k] == c and number[k] == passed:
                        found[0, k], found[1, k] = as_a[i] - starts[a[c]], as_b[j] - starts[b[c]]
                        found[2, k] = item - starts[x[c]]
                        k += 1
                    passed += 1
    return found


@njit(cache=True, nogil=True)
def count_constrained(
    layout: Any, cells: Any, constraints: Any, first: int, last: int, distances: Floats, results: Any
) -> None:
    """As :func:`count`, of triplets that fulfil constraints, one by one; the distances are not sorted."""
    starts, a, b, x = layout.starts, cells.a, cells.b, cells.x
    as_a, as_b = np.empty(starts[-1], dtype=np.int64), np.empty(starts[-1], dtype=np.int64)
    between = _between(constraints.tests)
    for k in range(first, last):
        wrong = size = 0
        delta = square = distance = 0.0
        for item in range(starts[x[k]], starts[x[k] + 1]):
            at = layout.base[x[k]] + item * layout.columns[x[k]]
            na = _passing(0, starts[a[k]], starts[a[k] + 1], item, constraints, as_a)
            nb = _passing(1, starts[b[k]], starts[b[k] + 1], item, constraints, as_b)
            for i in range(na):
                to_a = np.float64(distances[at + as_a[i]])
                for j in range(nb):
                    if len(between) and not _passes(as_a[i], as_b[j], constraints, between):
                        continue
                    to_b = np.float64(distances[at + as_b[j]])
                    wrong += 2 * (to_b < to_a) + (to_b == to_a)
                    delta += to_b - to_a
                    square += (to_b - to_a) * (to_b - to_a)
                    distance += to_a + to_b
                    size += 1
        cell = cells.cell[k]
        results.lost[cell] = wrong
        results.delta_sum[cell] = delta
        results.delta_square_sum[cell] = square
        results.distance_mean[cell] = distance / (2.0 * size)
