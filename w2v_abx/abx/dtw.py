"""Distances between frames and, by dynamic time warping, between items.

Numba kernels, each run on one thread and without the GIL. A frame distance is computed by the same instructions
wherever its frames lie, and is bit for bit symmetric: items that are equal get equal distances, so that ties are ties.

The kernels that call one another stand in one file, because numba's cache looks at no other when it tells whether the
source has changed.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from w2v_abx.abx import microkernel
from w2v_abx.abx.microkernel import LANES, ROWS, VECTORS

__all__ = [
    "ANGULAR",
    "EUCLIDEAN",
    "IDENTICAL",
    "KL_SYMMETRIC",
    "SPARE_ROWS",
    "FrameRows",
    "ItemPairs",
    "Tiles",
    "align",
    "prepare",
]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

ANGULAR, EUCLIDEAN, KL_SYMMETRIC, IDENTICAL = range(4)
SPARE_ROWS = max(ROWS, LANES)  # that follow the last frame, for rows or strips of the microkernel may begin at any
EPSILON = np.float32(1e-6)  # added to probabilities under the logarithm, as ABXpy and fastabx do

TILE_ROWS = 64  # of a tile of frame distances: it stays in the nearest caches

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

# Sums may be reordered and fused: how is fixed when the kernel is compiled, not when it runs. NaN and infinity keep
# their meaning.
REORDER = {"reassoc", "contract", "nsz"}

MICROKERNEL = "8473d0fa63a247f4"  # of its text, for numba's cache: see there
dot_wide, dot_narrow = microkernel.dot
squares_wide, squares_narrow = microkernel.squares
kl_wide, kl_narrow = microkernel.kl


class FrameRows(NamedTuple):
    """The frames of items as the kernels take them, from row ``ends[i]`` to ``ends[i + 1]`` those of item i.

    Attributes:
        left, logs, null: see :func:`prepare`.
        any_null: whether there is a frame of length zero.
        longest: the frames of the longest item.
    """

    left: Floats
    logs: Floats
    null: npt.NDArray[np.bool_]
    any_null: bool
    ends: Integers
    longest: int


class ItemPairs(NamedTuple):
    """Which groups are compared: group g with the groups ``h[first[g] : first[g + 1]]``, ascending: itself and later
    ones in its block."""

    first: Integers
    h: Integers


class Tiles(NamedTuple):
    """Tiles of items that follow one another: tile t has the items ``begin[t] : end[t]``; item i is of ``group[i]``."""

    group: Integers
    begin: Integers
    end: Integers


class Scratch(NamedTuple):
    """What a kernel that aligns writes on: columns in strips, frame distances, and a row of the DTW."""

    strips: Floats
    log_strips: Floats
    distances: Floats
    cost: Floats
    steps: npt.NDArray[np.int32]


@njit(cache=True, nogil=True, fastmath=REORDER)
def _square_length(frame: Floats) -> float:
    total = 0.0
    for value in frame:
        total += np.float64(value) * np.float64(value)
    return total


@njit(cache=True, nogil=True)
def prepare(metric: int, frames: Floats, first: int, left: Floats, logs: Floats, null: Any) -> None:
    """Copy the frames of an item to the rows of ``left`` from ``first`` on, as the frame distance needs them.

    Angular: of unit length, ``null`` marking those of length zero. Symmetric KL: beside, their logarithms in ``logs``.
    Others: as they are.
    """
    for i in range(len(frames)):
        frame, row = frames[i], first + i
        scale = 1.0
        if metric == ANGULAR:
            square = _square_length(frame)
            null[row] = square == 0.0
            scale = 1.0 / np.sqrt(square) if square > 0.0 else 0.0
        for k in range(len(frame)):
            left[row, k] = frame[k] * scale
        if metric == KL_SYMMETRIC:
            for k in range(len(frame)):
                logs[row, k] = np.log(frame[k] + EPSILON)


@njit(cache=True, nogil=True)
def _fill_strips(rows: Floats, c0: int, c1: int, strips: Floats) -> None:
    """Copy the frames c0:c1 into strips of LANES columns; those that follow fill the last one."""
    for strip in range((c1 - c0 + LANES - 1) // LANES):
        first = c0 + strip * LANES
        for k in range(rows.shape[1]):
            for lane in range(LANES):
                strips[strip, k, lane] = rows[first + lane, k]


@njit(cache=True, nogil=True, fastmath=REORDER)
def _angles(null: Any, any_null: bool, r0: int, r1: int, c0: int, c1: int, out: Floats) -> None:
    """Make the products of unit vectors in ``out`` angles over π."""
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
def _sums(metric: int, wide: bool, frames: Any, r0: int, r1: int, column: int, scratch: Any) -> None:
    """Sum over the dimensions for the rows r0:r1 and as many columns from ``column`` on as the microkernel takes."""
    left, logs, out = frames.left, frames.logs, scratch.distances
    strips, log_strips, strip = scratch.strips, scratch.log_strips, column // LANES
    for r in range(r0, r1, ROWS):
        i = r - r0
        if metric == ANGULAR:
            if wide:
                dot_wide((left,), r, (strips,), strip, out, i, column)
            else:
                dot_narrow((left,), r, (strips,), strip, out, i, column)
        elif metric == EUCLIDEAN:
            if wide:
                squares_wide((left,), r, (strips,), strip, out, i, column)
            else:
                squares_narrow((left,), r, (strips,), strip, out, i, column)
        elif wide:
            kl_wide((left, logs), r, (strips, log_strips), strip, out, i, column)
        else:
            kl_narrow((left, logs), r, (strips, log_strips), strip, out, i, column)


@njit(cache=True, nogil=True)
def _frame_distances(metric: int, frames: Any, r0: int, r1: int, c0: int, c1: int, scratch: Any) -> None:
    """Distances of the frames r0:r1 to the frames c0:c1, whose strips are there, into the top left of
    ``scratch.distances``, which has room for whole calls of the microkernel."""
    out = scratch.distances
    if metric == IDENTICAL:
        _identical(frames.left, r0, r1, c0, c1, out)
        return
    column = 0
    while column < c1 - c0:
        # One wide call costs less than as many narrow ones as reach as far.
        wide = c1 - c0 - column > LANES * (VECTORS - 1)
        _sums(metric, wide, frames, r0, r1, column, scratch)
        column += LANES * VECTORS if wide else LANES
    if metric == ANGULAR:
        _angles(frames.null, frames.any_null, r0, r1, c0, c1, out)
    else:
        for i in range(r1 - r0):
            for j in range(c1 - c0):
                out[i, j] = np.sqrt(out[i, j]) if metric == EUCLIDEAN else HALF * out[i, j]


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
def _align_rows(metric: int, frames: Any, layout: Any, group: Integers, needed: Any, c: int, c_next: int, r: int,
                r_next: int, scratch: Any, distances: Floats) -> None:  # fmt: skip
    """Align the items r:r_next with the items c:c_next of the tile, where the distances of their groups are needed."""
    ends, block, near = frames.ends, layout.block, scratch.distances
    while r < r_next:
        r_end = r + 1
        while r_end < r_next and ends[r_end + 1] - ends[r] <= TILE_ROWS:
            r_end += 1
        # Of the tile itself, an item is aligned with those before it.
        c_end = min(c_next, r_end) if block[group[c]] == block[group[r]] else c_next
        _frame_distances(metric, frames, ends[r], ends[r_end], ends[c], ends[c_end], scratch)
        for y in range(r, r_end):
            h = group[y]
            for x in range(c, c_end):
                g = group[x]
                if not needed[g, h]:
                    continue
                at = layout.base[g] + x * layout.columns[g] + y
                if g == h and y <= x:
                    if x == y:
                        # An item is never compared with itself: sorted last, it is not counted.
                        distances[at] = INFINITY
                    continue
                there, back = _align_pair(
                    near, ends[y] - ends[r], ends[y + 1] - ends[y], ends[x] - ends[c], ends[x + 1] - ends[x],
                    scratch.cost, scratch.steps,
                )  # fmt: skip
                distances[at] = back
                # Within a block of the distance matrix one alignment serves both directions.
                if block[g] == block[h]:
                    distances[layout.base[h] + y * layout.columns[h] + x] = there
        r = r_end


@njit(cache=True, nogil=True)
def align(metric: int, frames: Any, layout: Any, group: Integers, needed: Any, begin: Integers, end: Integers,
          distances: Floats) -> None:  # fmt: skip
    """Align the items of some tiles, ``begin[t]:end[t]`` of tile t, with those of the groups that theirs need.

    Args:
        frames: the `FrameRows` of the batch's items.
        layout: a :class:`w2v_abx.abx.blocks.Layout`, which says where in ``distances`` the results go.
        group: (N,) the group of each item.
        needed: (G, G) which groups are compared: g with itself and later ones in its block, and with any others.
    """
    starts, ends, logs = layout.starts, frames.ends, metric == KL_SYMMETRIC
    width, widest = frames.left.shape[1], 0
    for t in range(len(begin)):
        widest = max(widest, ends[end[t]] - ends[begin[t]])
    side = -(-widest // (LANES * VECTORS)) * (LANES * VECTORS)
    scratch = Scratch(
        np.empty((side // LANES, width, LANES), dtype=np.float32),
        np.empty((side // LANES if logs else 0, width, LANES), dtype=np.float32),
        np.empty((TILE_ROWS + frames.longest + ROWS, side), dtype=np.float32),
        np.empty(frames.longest, dtype=np.float32),
        np.empty(frames.longest, dtype=np.int32),
    )
    for t in range(len(begin)):
        c, c_next = begin[t], end[t]
        _fill_strips(frames.left, ends[c], ends[c_next], scratch.strips)
        if logs:
            _fill_strips(frames.logs, ends[c], ends[c_next], scratch.log_strips)
        # The rows that wait: whole groups that follow one another, until they fill a tile of frame distances.
        r, r_next = 0, 0
        for h in range(len(starts) - 1):
            if not needed[group[c] : group[c_next - 1] + 1, h].any():
                continue
            if r_next > r and (starts[h] > r_next or ends[starts[h + 1]] - ends[r] > TILE_ROWS):
                _align_rows(metric, frames, layout, group, needed, c, c_next, r, r_next, scratch, distances)
                r = r_next
            if r == r_next:
                # Of a group that two tiles share, the earlier one has aligned the rows before this.
                r = max(starts[h], c) if h == group[c] else starts[h]
            r_next = starts[h + 1]
        if r_next > r:
            _align_rows(metric, frames, layout, group, needed, c, c_next, r, r_next, scratch, distances)
