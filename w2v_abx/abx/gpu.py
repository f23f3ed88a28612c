"""Scoring on a GPU: the order of work of :class:`w2v_abx.abx.engine.Plan`, and the results of its CPU engine.

A batch of panels is worked off in *launches*: rows of consecutive items whose frame distances fit a scratch buffer. A
launch lists the tiles of frame distances in which some needed pair of items lies, fills them, and aligns the pairs, one
a lane, those of like lengths side by side. Distances are then sorted by X and group, and triplets counted by rank. The
host sends short tables ahead and waits for nothing before the results.

What to expect of an H200, reckoned from the instructions that Triton 3.6 compiles to, **not measured**: 60,000 items of
22 frames of 768 dimensions, across speakers, are about 14 million pairs, 7 · 10⁹ frame distances and 11 · 10¹²
float32 operations. The card does at most 67 · 10¹² a second, and more than 80 % of the inner loop of `angle_tiles` is
fused multiply-adds: 0.2 to 0.4 s. Frame distances are written once and read once: 58 GB, 15 ms at 4.8 TB/s. Alignment
takes some 40 instructions a frame distance, and scattered reads: 20 to 80 ms. Sorting 28 million distances and counting
745,000 cells: 50 ms. So the products are the cost, and it grows with pairs of items, not with triplets.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from w2v_abx.abx import alignment
from w2v_abx.abx.engine import Plan, Results
from w2v_abx.abx.panels import Batch
from w2v_abx.errors import InputError

__all__ = ["score"]

Integers = npt.NDArray[np.int64]

TILE = 64  # frames a side of a tile; no result depends on it
DEPTH = 32  # dimensions a step of the product; frames are padded to whole steps
LANES = 128  # pairs of items aligned together
SCRATCH = 1 << 27  # frame distances in one launch at most (512 MiB), unless one item's need more
PAIRS = 1 << 22  # pairs of items in one launch at most, likewise
EDGES = 1 << 25  # costs kept at the edges of strips, at most (256 MiB with their steps)
PROGRAMS = 4096  # programs that share the alignments of a launch, at most
SORTED = 1 << 22  # distances sorted at once, about
LONGEST = 1 << 15  # frames of an item: the steps of a path are counted in 16 bits
LOW_31, LOW_32, HIGH = 0x7FFFFFFF, 0xFFFFFFFF, 1 << 31


def score(
    plan: Plan,
    metric: int,
    values: Tensor,
    starts: Integers,
    lengths: Integers,
    batches: Sequence[Batch] | None = None,
) -> Results:
    """Score frames ``values`` (T, D), float32, on the device they lie on.

    The frames of item i of the plan's cells are the ``lengths[i]`` rows from ``starts[i]`` on. Equals
    :meth:`Plan.score` but for the rounding of sums, and itself to the last bit from run to run.
    Only ``batches`` are scored, if any are named.

    Raises:
        InputError: an item is longer than 32,768 frames.
    """
    if int(lengths.max()) > LONGEST:
        raise InputError(
            f"An item has {int(lengths.max())} frames, and a GPU aligns items of up to {LONGEST}; use device=cpu."
        )
    with torch.inference_mode(), torch.cuda.device(values.device) if values.is_cuda else nullcontext():
        scoring = _Scoring(plan, metric, values.contiguous(), starts, lengths)
        return scoring.results(plan.batches if batches is None else batches)


@dataclass(frozen=True)
class _Items:
    """The items of a batch, numbered from its first, as arrays on the host and as tensors on the device.

    Attributes:
        rows: those that have a row of distances; their rows lie one behind the other.
        group: (n,) the group of each.
        ends: (n + 1,) where the frames of each begin.
        block: (2, n) where the frames of the block of each begin and end.
        cells: (n + 1,) the distances in all rows before that of each.
        area: (n + 1,) the frame distances in them.
        end, length, base, panel, row_base, pitch: (n,) tensors, as `triton_kernels.warp_pairs` reads them.
        groups: (G + 1,) tensor, where the items of each group begin.
        group_start, block_start: (n,) tensors, the first item of the group and of the block of each.
    """

    rows: range
    group: Integers
    ends: Integers
    block: Integers
    cells: Integers
    area: Integers
    end: Tensor
    length: Tensor
    base: Tensor
    panel: Tensor
    row_base: Tensor
    pitch: Tensor
    groups: Tensor
    group_start: Tensor
    block_start: Tensor


class _Scoring:
    """One call of :func:`score`: what its steps share."""

    def __init__(self, plan: Plan, metric: int, values: Tensor, starts: Integers, lengths: Integers) -> None:
        from w2v_abx.abx import triton_kernels

        self.kernels = triton_kernels
        self.plan, self.metric, self.values, self.device = plan, metric, values, values.device
        self.starts, self.lengths = starts, lengths
        self.longest = int(lengths.max())
        self.programs = max(1, min(PROGRAMS, EDGES // (LANES * self.longest)))
        edges = self.programs * LANES * self.longest
        self.edge_cost = torch.empty(edges, device=self.device)
        self.edge_steps = torch.empty(edges, dtype=torch.int32, device=self.device)
        self.scratch = torch.empty(0, device=self.device)
        cells = len(plan.cells.size)
        self.lost = torch.zeros(cells, dtype=torch.int64, device=self.device)
        self.sums = torch.zeros(3, cells, dtype=torch.float64, device=self.device)
        self.deltas = torch.zeros(len(plan.triplets.cell), device=self.device)

    def results(self, batches: Sequence[Batch]) -> Results:
        for batch in batches:
            items = self._items(batch)
            distances = self._align(batch, items)
            self._sample(batch, distances)
            self._sort(items, distances)
            self._count(batch, items, distances)
        sums = self.sums.cpu().numpy()
        return Results(self.lost.cpu().numpy(), sums[0], sums[1], sums[2], self.deltas.cpu().numpy())

    def _upload(self, *arrays: Any) -> tuple[Tensor, ...]:
        """Integer arrays as int64 on the device; from pinned memory, so that the host need not wait."""
        joined = torch.from_numpy(np.concatenate([np.asarray(array, dtype=np.int64).ravel() for array in arrays]))
        if self.device.type == "cuda":
            joined = joined.pin_memory().to(self.device, non_blocking=True)
        return joined.split([np.size(array) for array in arrays])

    def _items(self, batch: Batch) -> _Items:
        cells, groups = self.plan.cells, batch.groups
        lengths = self.lengths[cells.starts[groups.start] : cells.starts[groups.stop]]
        group = np.repeat(np.arange(len(groups)), np.diff(batch.starts))
        ends = np.concatenate([[0], np.cumsum(lengths)])
        # Where blocks begin, as groups and as items; and the block of each item.
        edges = np.flatnonzero(np.diff(cells.block[groups.start : groups.stop], prepend=-1, append=-1))
        edges = batch.starts[edges]
        number = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
        block = np.stack([ends[edges[number]], ends[edges[number + 1]]])
        pitch = block[1] - block[0]
        rows = range(*(int(batch.starts[row - groups.start]) for row in (batch.rows.start, batch.rows.stop)))
        is_row = np.zeros(len(group), dtype=bool)
        is_row[rows.start : rows.stop] = True
        width = edges[number + 1] - edges[number]
        area = np.concatenate([[0], np.cumsum(np.where(is_row, lengths * pitch, 0))])
        base = batch.base[group] + np.arange(len(group)) * batch.columns[group]
        return _Items(
            rows,
            group,
            ends,
            block,
            np.concatenate([[0], np.cumsum(np.where(is_row, width, 0))]),
            area,
            *self._upload(
                ends[:-1], lengths, base, batch.panel[group], area[:-1] - block[0], pitch, batch.starts,
                batch.starts[group], edges[number],
            ),
        )  # fmt: skip

    def _align(self, batch: Batch, items: _Items) -> Tensor:
        """The distances of a batch, infinite where no cell needs them."""
        left, right, null = self._frames(batch, items)
        distances = torch.full((batch.area,), torch.inf, device=self.device)
        chosen = slice(*np.searchsorted(self.plan.pair_g, [batch.rows.start, batch.rows.stop]))
        g, h = (pair[chosen] - batch.groups.start for pair in (self.plan.pair_g, self.plan.pair_h))
        begin = items.rows.start
        while begin < items.rows.stop:
            end = min(_reach(items.area, begin, SCRATCH), _reach(items.cells, begin, PAIRS), items.rows.stop)
            pairs = slice(*np.searchsorted(g, [items.group[begin], items.group[end - 1] + 1]))
            first, last = np.maximum(batch.starts[g[pairs]], begin), np.minimum(batch.starts[g[pairs] + 1], end)
            first_column, last_column = batch.starts[h[pairs]], batch.starts[h[pairs] + 1]
            if len(first):
                tiles = _tiles(items, begin, end, first, last, first_column, last_column)
                self._fill(left, right, null, tiles, int(items.area[end] - items.area[begin]))
                self._warp(items, begin, first, last - first, first_column, last_column - first_column, distances)
            begin = end
        return distances

    def _frames(self, batch: Batch, items: _Items) -> tuple[Tensor, Tensor, Tensor]:
        """The frames of a batch as the kernels read them: themselves, their logarithms, and which are zero."""
        origin = self.plan.cells.starts[batch.groups.start]
        (starts,) = self._upload(self.starts[origin : origin + len(items.group)])
        total, width = int(items.ends[-1]), self.values.shape[1]
        frames = torch.repeat_interleave(starts - items.end, items.length, output_size=total)
        frames += torch.arange(total, device=self.device)
        null = torch.empty(total, dtype=torch.int8, device=self.device)
        if self.metric == alignment.ANGULAR:
            padded = -(-width // DEPTH) * DEPTH
            left = torch.empty(total, padded, device=self.device)
            self.kernels.unit_frames[(total,)](self.values, frames, width, left, padded, null, BLOCK=256, num_warps=1)
            return left, left, null
        left = self.values[frames].t().contiguous()
        right = torch.log(left + float(alignment.EPSILON)) if self.metric == alignment.KL_SYMMETRIC else left
        return left, right, null

    def _fill(self, left: Tensor, right: Tensor, null: Tensor, tiles: Integers, area: int) -> None:
        """Fill ``tiles`` of the scratch buffer with frame distances."""
        if len(self.scratch) < area:
            self.scratch = torch.empty(0, device=self.device)  # frees the old one before asking for the new one
            self.scratch = torch.empty(area, device=self.device)
        (table,) = self._upload(tiles)
        if self.metric == alignment.ANGULAR:
            self.kernels.angle_tiles[(len(tiles),)](
                left, null, left.shape[1], table, self.scratch, ROWS=TILE, COLUMNS=TILE, DEPTH=DEPTH, num_warps=2
            )
        else:
            self.kernels.difference_tiles[(len(tiles),)](
                left, right, left.shape[0], left.shape[1], table, self.scratch, METRIC=self.metric, ROWS=TILE,
                COLUMNS=TILE, num_warps=8, enable_fp_fusion=False,
            )  # fmt: skip

    def _warp(self, items: _Items, begin: int, first: Integers, rows: Integers, first_column: Integers,
              columns: Integers, distances: Tensor) -> None:  # fmt: skip
        """Align rectangles of ``rows`` by ``columns`` items, of a launch that begins with the row of item ``begin``."""
        counts = rows * columns
        pairs = int(counts.sum())
        sizes, before, x0, y0, width = self._upload(counts, np.cumsum(counts) - counts, first, first_column, columns)
        rectangle = torch.repeat_interleave(sizes, output_size=pairs)
        within = torch.arange(pairs, device=self.device) - before[rectangle]
        x = x0[rectangle] + within // width[rectangle]
        y = y0[rectangle] + within % width[rectangle]
        # Lanes work in step: pairs of like lengths stand together, the longest first.
        order = torch.sort(items.length[x] * (self.longest + 1) + items.length[y], descending=True).indices
        programs = min(self.programs, -(-pairs // LANES))
        self.kernels.warp_pairs[(programs,)](
            x[order].int(), y[order].int(), pairs, items.end, items.length, items.base, items.panel,
            items.row_base - int(items.area[begin]), items.pitch, self.scratch, self.edge_cost, self.edge_steps,
            self.longest, distances, LANES=LANES, num_warps=LANES // 32,
        )  # fmt: skip

    def _sample(self, batch: Batch, distances: Tensor) -> None:
        plan, first = self.plan, batch.groups.start
        low, high = np.searchsorted(plan.triplet_x, [batch.rows.start, batch.rows.stop])
        drawn = plan.triplet_order[low:high]
        cell = plan.triplets.cell[drawn]
        g = plan.cells.x[cell] - first
        row = batch.base[g] + (batch.starts[g] + plan.triplets.x[drawn]) * batch.columns[g]
        at, to_a, to_b = self._upload(
            drawn,
            row + batch.starts[plan.cells.a[cell] - first] + plan.triplets.a[drawn],
            row + batch.starts[plan.cells.b[cell] - first] + plan.triplets.b[drawn],
        )
        self.deltas[at] = distances[to_b] - distances[to_a]

    def _sort(self, items: _Items, distances: Tensor) -> None:
        """Sort the distances of each row to each group, in place."""
        begin = items.rows.start
        while begin < items.rows.stop:
            end = min(_reach(items.cells, begin, SORTED), items.rows.stop)
            low, high = int(items.cells[begin]), int(items.cells[end])
            (cells,) = self._upload(items.cells[begin : end + 1])
            starts = cells[:-1] - low
            row = torch.repeat_interleave(cells.diff(), output_size=high - low)
            block = items.block_start[begin:end]
            item = torch.arange(high - low, device=self.device) + (block - starts)[row]
            segment = items.group_start[item] + (starts - block)[row]
            # One sort of integers: where a distance's row and group begin, then its bits in an order of integers.
            bits = (distances[low:high] + 0.0).view(torch.int32)  # no −0.0
            keys = torch.sort((segment << 32) + torch.where(bits < 0, bits ^ LOW_31, bits).long() + HIGH).values
            bits = ((keys & LOW_32) - HIGH).int()
            distances[low:high] = torch.where(bits < 0, bits ^ LOW_31, bits).view(torch.float32)
            begin = end

    def _count(self, batch: Batch, items: _Items, distances: Tensor) -> None:
        low, high = np.searchsorted(self.plan.cell_x, [batch.rows.start, batch.rows.stop])
        cell = self.plan.cell_order[low:high]
        if not len(cell):
            return
        cells = self.plan.cells
        a, b, x = (group[cell] - batch.groups.start for group in (cells.a, cells.b, cells.x))
        self.kernels.count_cells[(len(cell),)](
            distances, items.groups, items.base, *self._upload(a, b, x, cell),
            int(np.diff(batch.starts).max()).bit_length(), self.lost, *self.sums, LANES=32, num_warps=1,
        )  # fmt: skip


def _reach(before: Integers, begin: int, most: int) -> int:
    """The end of the rows from ``begin`` on that hold at most ``most``: one row at least."""
    return max(int(np.searchsorted(before, before[begin] + most, side="right")) - 1, begin + 1)


def _tiles(items: _Items, begin: int, end: int, first: Integers, last: Integers, first_column: Integers,
           last_column: Integers) -> Integers:  # fmt: skip
    """The tiles in which rectangles of items lie, as `triton_kernels.angle_tiles` reads them.

    Args:
        begin, end: the row items of the launch; those of one block are one matrix in the scratch buffer.
        first, last, first_column, last_column: the row items and the column items of each rectangle.
    """
    block = items.block[:, begin:end]
    heads = np.flatnonzero(np.diff(block[0], prepend=-1))
    row, row_end = items.ends[begin + heads], items.ends[begin + np.append(heads[1:], end - begin)]
    column, column_end = block[:, heads]
    at, pitch = items.area[begin + heads] - items.area[begin], column_end - column
    down, across = -(-(row_end - row) // TILE), -(-pitch // TILE)
    before = np.cumsum(down * across) - down * across
    matrix = np.searchsorted(begin + heads, first, side="right") - 1
    top, bottom = ((items.ends[item] + shift - row[matrix]) // TILE for item, shift in ((first, 0), (last, -1)))
    near, far = (
        (items.ends[item] + shift - column[matrix]) // TILE for item, shift in ((first_column, 0), (last_column, -1))
    )
    height = bottom - top + 1
    counts = height * (far - near + 1)
    rectangle = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(rectangle)) - np.repeat(np.cumsum(counts) - counts, counts)
    i, j = top[rectangle] + within % height[rectangle], near[rectangle] + within // height[rectangle]
    # Of a group with itself only what lies above the diagonal is needed.
    square = (first_column <= first) & (first < last_column)
    inside = matrix[rectangle]
    above = column[inside] + (j + 1) * TILE > row[inside] + i * TILE
    # Column by column, so that the rows of a launch stay in the cache.
    number = before[inside] + j * down[inside] + i
    needed = np.zeros(int((down * across).sum()), dtype=bool)
    needed[number[above | ~square[rectangle]]] = True
    tile = np.flatnonzero(needed)
    matrix = np.searchsorted(before, tile, side="right") - 1
    j, i = np.divmod(tile - before[matrix], down[matrix])
    return np.stack(
        [
            row[matrix] + i * TILE,
            row_end[matrix],
            column[matrix] + j * TILE,
            column_end[matrix],
            at[matrix] + i * TILE * pitch[matrix] + j * TILE,
            pitch[matrix],
        ],
        axis=1,
    )
