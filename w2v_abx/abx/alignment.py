"""Distances between frames and, by dynamic time warping, between items.

Numba kernels, each run on one thread and without the GIL. A frame distance is computed by the same instructions
wherever its frames lie, and is bit for bit symmetric: items that are equal get equal distances, so that ties are ties.

The kernels that call one another stand in one file, because numba's cache looks at no other when it tells whether the
source has changed.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["ANGULAR", "EUCLIDEAN", "IDENTICAL", "KL_SYMMETRIC", "align", "padded_width", "prepare"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

ANGULAR, EUCLIDEAN, KL_SYMMETRIC, IDENTICAL = range(4)
PAD = 16  # Rows are padded with zeros to whole vectors; no distance below changes with them.
EPSILON = np.float32(1e-6)  # added to probabilities under the logarithm, as ABXpy and fastabx do

TILE = 128  # frames a side of a tile of frame distances: it stays in the nearest caches

ZERO, HALF, ONE, INFINITY = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(np.inf)
# arccos(x) = sqrt(1 - x) · P(x) on [0, 1], to 2e-8: Abramowitz and Stegun (1964), 4.4.46; here over π, which makes P(0)
# exactly one half. Unlike a library call it becomes vector instructions, and costs less than the alignment.
P0, P1, P2, P3, P4, P5, P6, P7 = (
    np.float32(coefficient / np.pi)
    for coefficient in (
        1.5707963050, -0.2145988016, 0.0889789874, -0.0501743046, 0.0308918810, -0.0170881256, 0.0066700901,
        -0.0012624911,
    )
)  # fmt: skip

# Sums may be reordered and fused for speed: the order is fixed when the kernel is compiled, not when it runs. NaN and
# infinity keep their meaning.
REORDER = {"reassoc", "contract", "nsz"}


def padded_width(width: int) -> int:
    """The number of columns that :func:`prepare` fills for frames of ``width``."""
    return -(-width // PAD) * PAD


@njit(cache=True, nogil=True)
def prepare(metric: int, raw: Floats, frames: Integers, first: int, last: int, left: Floats, right: Floats, null: Any
            ) -> None:  # fmt: skip
    """Copy the frames numbered ``frames[first:last]`` to the same rows of ``left``, as the frame distance needs them.

    Angular: of unit length, ``null`` marking those of length zero. Symmetric KL: beside, their logarithms in
    ``right``. Others: as they are.
    """
    width = raw.shape[1]
    for row in range(first, last):
        source = raw[frames[row]]
        scale = 1.0
        if metric == ANGULAR:
            square = 0.0
            for k in range(width):
                square += np.float64(source[k]) * np.float64(source[k])
            null[row] = square == 0.0
            scale = 1.0 / np.sqrt(square) if square > 0.0 else 0.0
        for k in range(width):
            left[row, k] = source[k] * scale
        left[row, width:] = ZERO
        if metric == KL_SYMMETRIC:
            for k in range(width):
                right[row, k] = np.log(source[k] + EPSILON)
            right[row, width:] = ZERO


@njit(cache=True, nogil=True, fastmath=REORDER)
def _dots(values: Floats, r0: int, r1: int, c0: int, c1: int, out: Floats) -> None:
    """Products of rows r0:r1 with rows c0:c1, four by four so that each number loaded is used four times."""
    width = values.shape[1]
    for r in range(r0, r1, 4):
        x0, x1, x2, x3 = values[r], values[min(r + 1, r1 - 1)], values[min(r + 2, r1 - 1)], values[min(r + 3, r1 - 1)]
        i = r - r0
        for c in range(c0, c1, 4):
            y0, y1 = values[c], values[min(c + 1, c1 - 1)]
            y2, y3 = values[min(c + 2, c1 - 1)], values[min(c + 3, c1 - 1)]
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = ZERO
            s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = ZERO
            for k in range(width):
                p0, p1, p2, p3 = x0[k], x1[k], x2[k], x3[k]
                q0, q1, q2, q3 = y0[k], y1[k], y2[k], y3[k]
                s00 += p0 * q0
                s01 += p0 * q1
                s02 += p0 * q2
                s03 += p0 * q3
                s10 += p1 * q0
                s11 += p1 * q1
                s12 += p1 * q2
                s13 += p1 * q3
                s20 += p2 * q0
                s21 += p2 * q1
                s22 += p2 * q2
                s23 += p2 * q3
                s30 += p3 * q0
                s31 += p3 * q1
                s32 += p3 * q2
                s33 += p3 * q3
            # The scratch has room for whole fours beyond the last row and column.
            j = c - c0
            out[i, j], out[i, j + 1], out[i, j + 2], out[i, j + 3] = s00, s01, s02, s03
            out[i + 1, j], out[i + 1, j + 1], out[i + 1, j + 2], out[i + 1, j + 3] = s10, s11, s12, s13
            out[i + 2, j], out[i + 2, j + 1], out[i + 2, j + 2], out[i + 2, j + 3] = s20, s21, s22, s23
            out[i + 3, j], out[i + 3, j + 1], out[i + 3, j + 2], out[i + 3, j + 3] = s30, s31, s32, s33


@njit(cache=True, nogil=True, fastmath=REORDER)
def _angles(null: Any, any_null: bool, r0: int, r1: int, c0: int, c1: int, out: Floats) -> None:
    """Turn the products of unit vectors in ``out`` into angles over π."""
    for i in range(r1 - r0):
        row = out[i]
        for j in range(c1 - c0):
            cosine = row[j]
            t = min(abs(cosine), ONE)
            p = P0 + t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * (P5 + t * (P6 + t * P7))))))
            angle = np.sqrt(ONE - t) * p
            row[j] = angle if cosine >= ZERO else ONE - angle
    if any_null:
        # A vector without direction is farthest from every other, and equal to another such.
        for i in range(r1 - r0):
            for j in range(c1 - c0):
                if null[r0 + i] or null[c0 + j]:
                    out[i, j] = ZERO if null[r0 + i] and null[c0 + j] else ONE


@njit(cache=True, nogil=True)
def _euclidean(values: Floats, r0: int, r1: int, c0: int, c1: int, turned: Floats, out: Floats) -> None:
    """Euclidean distances, the squares added one dimension after another, as PyTorch's cdist and so fastabx do.

    Near ties are decided by rounding. The vector instructions therefore run over columns (from ``turned``, where
    dimensions are rows), not over dimensions.
    """
    width = values.shape[1]
    count = c1 - c0
    for c in range(count):
        for k in range(width):
            turned[k, c] = values[c0 + c, k]
    for r in range(r0, r1):
        row, x = out[r - r0], values[r]
        for c in range(count):
            row[c] = ZERO
        for k in range(0, width, 4):
            p0, p1, p2, p3 = x[k], x[k + 1], x[k + 2], x[k + 3]
            q0, q1, q2, q3 = turned[k], turned[k + 1], turned[k + 2], turned[k + 3]
            for c in range(count):
                d0, d1, d2, d3 = p0 - q0[c], p1 - q1[c], p2 - q2[c], p3 - q3[c]
                row[c] = (((row[c] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3
        for c in range(count):
            row[c] = np.sqrt(row[c])


@njit(cache=True, nogil=True, fastmath=REORDER)
def _kl_symmetric(left: Floats, right: Floats, r0: int, r1: int, c0: int, c1: int, out: Floats) -> None:
    """Half the sum of (p − q) (log p − log q), which for distributions is the mean of the two divergences."""
    for r in range(r0, r1):
        p, log_p = left[r], right[r]
        for c in range(c0, c1):
            q, log_q = left[c], right[c]
            total = ZERO
            for k in range(left.shape[1]):
                total += (p[k] - q[k]) * (log_p[k] - log_q[k])
            out[r - r0, c - c0] = HALF * total


@njit(cache=True, nogil=True)
def _identical(values: Floats, r0: int, r1: int, c0: int, c1: int, out: Floats) -> None:
    """Zero for frames that are equal in every dimension, else one."""
    for r in range(r0, r1):
        for c in range(c0, c1):
            differs = ZERO
            for k in range(values.shape[1]):
                if values[r, k] != values[c, k]:
                    differs = ONE
                    break
            out[r - r0, c - c0] = differs


@njit(cache=True, nogil=True)
def _frame_distances(metric: int, left: Floats, right: Floats, null: Any, any_null: bool, r0: int, r1: int, c0: int,
                    c1: int, turned: Floats, out: Floats) -> None:  # fmt: skip
    """Distances of the frames r0:r1 to the frames c0:c1 into the top left of ``out``.

    ``out`` has room for three rows and columns more; ``turned`` is scratch of (width, as many columns).
    """
    if metric == ANGULAR:
        _dots(left, r0, r1, c0, c1, out)
        _angles(null, any_null, r0, r1, c0, c1, out)
    elif metric == EUCLIDEAN:
        _euclidean(left, r0, r1, c0, c1, turned, out)
    elif metric == KL_SYMMETRIC:
        _kl_symmetric(left, right, r0, r1, c0, c1, out)
    else:
        _identical(left, r0, r1, c0, c1, out)


@njit(cache=True, nogil=True)
def _warp(tile: Floats, i0: int, m: int, j0: int, n: int, left_first: bool, cost: Floats, steps: Any
          ) -> tuple[float, bool]:  # fmt: skip
    """Mean distance along the best path through rows i0:i0+m and columns j0:j0+n, and whether left and up ever tied.

    A path's length is carried forward with its cost, so that no matrix is kept and nothing is traced back.
    """
    row = tile[i0]
    total = ZERO
    for j in range(n):
        total += row[j0 + j]
        cost[j] = total
        steps[j] = j + 1
    tied = False
    for i in range(1, m):
        row = tile[i0 + i]
        diagonal, diagonal_steps = cost[0], steps[0]
        left, left_steps = cost[0] + row[j0], steps[0] + 1
        cost[0], steps[0] = left, left_steps
        for j in range(1, n):
            up, up_steps = cost[j], steps[j]
            # Selections, not branches, for where a path goes cannot be predicted; and as little as possible between one
            # column's cost and the next one's.
            above = diagonal if diagonal <= up else up
            go_left = (left < up) | ((left == up) & left_first)
            go_straight = (diagonal <= up) & (diagonal <= left)
            tied |= (left == up) & (left < diagonal)
            side_steps = left_steps if go_left else up_steps
            left_steps = (diagonal_steps if go_straight else side_steps) + 1
            left = (above if above < left else left) + row[j0 + j]
            diagonal, diagonal_steps = up, up_steps
            cost[j], steps[j] = left, left_steps
    return cost[n - 1] / np.float32(steps[n - 1]), tied


@njit(cache=True, nogil=True)
def _align_pair(tile: Floats, i0: int, m: int, j0: int, n: int, cost: Floats, steps: Any) -> tuple[Any, Any]:
    """DTW distance of an item (rows) to another (columns), and of the other to it.

    Ties in the path prefer the diagonal, then the left (previous column), then up. They differ between the two
    directions only where left and up tie, which takes discrete or repeated frames: then the item is aligned again.
    """
    forth = back = ZERO
    for direction in range(2):
        back, tied = _warp(tile, i0, m, j0, n, direction == 0, cost, steps)
        if direction == 0:
            forth = back
        if not tied:
            break
    return forth, back


@njit(cache=True, nogil=True)
def _reach(ends: Integers, begin: int, last: int) -> int:
    """The item after those from ``begin`` on whose frames fill a tile: at least one."""
    end = begin + 1
    while end < last and ends[end + 1] - ends[begin] <= TILE:
        end += 1
    return end


@njit(cache=True, nogil=True)
def align(metric: int, left: Floats, right: Floats, null: Any, any_null: bool, ends: Integers, longest: int,
          starts: Integers, base: Integers, columns: Integers, panel: Integers, g: Integers, h: Integers,
          begin: Integers, end: Integers, first: int, last: int, distances: Floats) -> None:  # fmt: skip
    """Align items ``begin:end`` of group g with those of group h, for pieces first:last; frames at ``ends``."""
    side = max(TILE, longest) + 4
    tile = np.empty((side, side), dtype=np.float32)
    turned = np.empty((left.shape[1], side), dtype=np.float32)
    cost = np.empty(longest, dtype=np.float32)
    steps = np.empty(longest, dtype=np.int32)
    for piece in range(first, last):
        gg, hh = g[piece], h[piece]
        # Within a panel one alignment serves both directions.
        both = panel[gg] == panel[hh]
        r = begin[piece]
        while r < end[piece]:
            r_next = _reach(ends, r, end[piece])
            c = r if gg == hh else starts[hh]
            while c < starts[hh + 1]:
                c_next = _reach(ends, c, starts[hh + 1])
                _frame_distances(
                    metric, left, right, null, any_null, ends[r], ends[r_next], ends[c], ends[c_next], turned, tile
                )
                for x in range(r, r_next):
                    for y in range(c, c_next):
                        at = base[gg] + x * columns[gg] + y
                        if gg == hh and y <= x:
                            if x == y:
                                # An item is never compared with itself: sorted last, it is not counted.
                                distances[at] = INFINITY
                            continue
                        there, back = _align_pair(
                            tile, ends[x] - ends[r], ends[x + 1] - ends[x], ends[y] - ends[c], ends[y + 1] - ends[y],
                            cost, steps,
                        )  # fmt: skip
                        distances[at] = there
                        if both:
                            distances[base[hh] + y * columns[hh] + x] = back
                c = c_next
            r = r_next
