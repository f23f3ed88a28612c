"""Score a plan: align once each pair of items that some cell needs, then count triplets by rank.

Distances lie in blocks of the distance matrix, which are worked on in batches (see :mod:`w2v_abx.abx.blocks`). What a
call of a kernel computes does not depend on which thread runs it, nor when, so neither do the results.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from w2v_abx.abx import accelerator, alignment, counting
from w2v_abx.abx.alignment import FrameRows, ItemPairs, Tiles
from w2v_abx.abx.blocks import Batch, cut_batches
from w2v_abx.abx.cells import Cells
from w2v_abx.abx.counting import CellGroups, Results
from w2v_abx.abx.deltas import Triplets
from w2v_abx.abx.frames import WholeFiles

__all__ = ["Plan", "Results"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TILE_FRAMES = 256  # of a tile of items that are aligned with others, about
THREAD_CHUNKS = 8  # of work for each thread, so that none waits long for the others


class Plan:
    """The order of work for some cells and sampled triplets. One plan scores any number of sets of features.

    Its batches can be divided over ``ranks``; of each, the results of the others' cells are zero.
    """

    def __init__(self, cells: Cells, triplets: Triplets, ranks: int = 1) -> None:
        self.cells, self.triplets = cells, triplets
        self.batches = cut_batches(cells, ranks)
        block = np.concatenate([batch.layout.block[batch.own] for batch in self.batches])
        # The X of a cell says which block it needs, and blocks follow the order of their groups.
        self.cell_order = np.argsort(cells.x, kind="stable")
        self.triplet_order = np.argsort(cells.x[triplets.cell], kind="stable")
        self.cell_x, self.triplet_x = cells.x[self.cell_order], cells.x[triplets.cell][self.triplet_order]
        x, other = np.tile(cells.x, 2), np.concatenate([cells.a, cells.b])
        swap = (block[x] == block[other]) & (x > other)
        pairs = np.unique(np.where(swap, other, x) * len(block) + np.where(swap, x, other))
        self.pair_g, self.pair_h = np.divmod(pairs, len(block))

    def share(self, rank: int, ranks: int) -> list[Batch]:
        """The batches of one rank of several: about as many distances as any other's."""
        loads = [0] * ranks
        mine = []
        for batch in sorted(self.batches, key=lambda batch: (-batch.size, batch.rows.start)):
            lightest = loads.index(min(loads))
            loads[lightest] += batch.size
            if lightest == rank:
                mine.append(batch)
        return mine

    def score(
        self,
        metric: int,
        values: WholeFiles | torch.Tensor,
        starts: Integers,
        lengths: Integers,
        threads: int,
        batches: Sequence[Batch] | None = None,
    ) -> Results:
        """Score frames of ``values``, on which ``metric`` is defined, on ``threads`` threads.

        The frames of item i of the cells are ``lengths[i]`` from ``starts[i]`` on. Those in a tensor (T, D) are aligned
        on its device. Only ``batches`` are scored, if any are named.
        """
        cells, drawn = len(self.cells.size), len(self.triplets.cell)
        results = Results(
            np.zeros(cells, np.int64), np.zeros(cells), np.zeros(cells), np.zeros(cells), np.zeros(drawn, np.float32)
        )
        batches = self.batches if batches is None else batches
        if isinstance(values, WholeFiles):
            most = max((int(lengths[self._items(batch)].sum()) for batch in batches), default=0)
            room = np.empty((most + alignment.SPARE_ROWS, values.width), dtype=np.float32)
        with Workers(threads) as workers:
            for batch in batches:
                items = self._items(batch)
                chosen = slice(*np.searchsorted(self.pair_g, [batch.rows.start, batch.rows.stop]))
                g, h = self.pair_g[chosen] - batch.groups.start, self.pair_h[chosen] - batch.groups.start
                if isinstance(values, WholeFiles):
                    prepared = _prepare(metric, values, starts[items], lengths[items], workers, room)
                    distances = _align(batch, g, h, metric, prepared, workers)
                else:
                    distances = accelerator.align(batch, g, h, metric, values, starts[items], lengths[items])
                self._sample(batch, distances, results)
                self._count(batch, g, h, distances, results, workers)
        return results

    def _items(self, batch: Batch) -> slice:
        return slice(self.cells.starts[batch.groups.start], self.cells.starts[batch.groups.stop])

    def _sample(self, batch: Batch, distances: Floats, results: Results) -> None:
        low, high = np.searchsorted(self.triplet_x, [batch.rows.start, batch.rows.stop])
        drawn = self.triplet_order[low:high]
        triplets, cells, layout, first = self.triplets, self.cells, batch.layout, batch.groups.start
        cell = triplets.cell[drawn]
        g = cells.x[cell] - first
        a = layout.starts[cells.a[cell] - first] + triplets.a[drawn]
        b = layout.starts[cells.b[cell] - first] + triplets.b[drawn]
        row = layout.base[g] + (layout.starts[g] + triplets.x[drawn]) * layout.columns[g]
        results.deltas[drawn] = distances[row + b] - distances[row + a]

    def _count(
        self, batch: Batch, g: Integers, h: Integers, distances: Floats, results: Results, workers: "Workers"
    ) -> None:
        layout, sizes = batch.layout, np.diff(batch.layout.starts)
        low, high = np.searchsorted(self.cell_x, [batch.rows.start, batch.rows.stop])
        cell = self.cell_order[low:high]
        a, b, x = (group[cell] - batch.groups.start for group in (self.cells.a, self.cells.b, self.cells.x))
        cells = CellGroups(a, b, x, cell)
        if self.cells.constraints is not None:
            constraints = self.cells.constraints
            own = constraints._replace(codes=constraints.codes[:, self._items(batch)])
            workers.run(
                sizes[x] * sizes[a] * sizes[b],
                lambda i, j: counting.count_constrained(layout, cells, own, i, j, distances, results),
            )
            return
        workers.run(sizes[g] * sizes[h], lambda i, j: counting.sort(layout, g, h, i, j, distances))
        workers.run(
            sizes[x] * (sizes[a] + sizes[b]), lambda i, j: counting.count(layout, cells, i, j, distances, results)
        )


class Workers:
    """Threads that share out a range of work."""

    def __init__(self, threads: int) -> None:
        self._chunks = threads * THREAD_CHUNKS
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, costs: Integers, work: Callable[[int, int], None]) -> None:
        """Call ``work(i, j)`` for consecutive ranges i:j of about equal cost, and wait for all."""
        if len(costs):
            ends = np.cumsum(costs)
            cuts = np.searchsorted(ends, np.linspace(0, ends[-1], self._chunks + 1)[1:-1])
            edges = np.unique([0, *cuts.tolist(), len(costs)]).tolist()
            list(self._pool.map(work, edges[:-1], edges[1:]))


def _align(batch: Batch, g: Integers, h: Integers, metric: int, frames: FrameRows, workers: Workers) -> Floats:
    """The distances of a batch, of which those between the groups g and h are filled in."""
    distances = np.empty(batch.size, dtype=np.float32)
    layout, ends = batch.layout, frames.ends
    group = np.repeat(np.arange(len(batch.groups)), np.diff(layout.starts))
    pairs = ItemPairs(np.searchsorted(g, np.arange(len(batch.groups) + 1)), h)
    tiles = _tiles(group, layout.block, ends, np.diff(pairs.first))
    # What a tile costs: its frames, times those of the groups that theirs are paired with.
    counts = np.diff(ends[layout.starts])
    partners = np.bincount(g, weights=counts[h], minlength=len(counts))
    costs = np.concatenate([[0], np.cumsum(np.diff(ends) * partners[group])]) + ends
    workers.run(
        costs[tiles.end] - costs[tiles.begin],
        lambda i, j: alignment.align(metric, frames, layout, pairs, tiles, i, j, distances),
    )
    return distances


def _prepare(
    metric: int, values: WholeFiles, starts: Integers, lengths: Integers, workers: Workers, room: Floats
) -> FrameRows:
    """Prepare the frames of items, in the memory of ``room``."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    left = room[: ends[-1] + alignment.SPARE_ROWS]
    left[ends[-1] :] = 0.0
    logs = np.empty_like(left) if metric == alignment.KL_SYMMETRIC else left[:0]
    null = np.zeros(ends[-1], dtype=np.bool_)

    def gather(first: int, last: int) -> None:
        items = values.stretches(starts[first:last], lengths[first:last])
        for frames, row in zip(items, ends[first:last].tolist(), strict=True):
            alignment.prepare(metric, frames, row, left, logs, null)

    workers.run(lengths, gather)
    if metric == alignment.KL_SYMMETRIC:
        logs[ends[-1] :] = 0.0
    return FrameRows(left, logs, null, bool(null.any()), ends, int(lengths.max()))


def _tiles(group: Integers, block: Integers, ends: Integers, pairs: Integers) -> Tiles:
    """Cut the items of each block into tiles of about ``TILE_FRAMES`` frames, and keep those of groups with pairs."""
    of = block[group]
    block_start = np.flatnonzero(np.diff(of, prepend=-2) != 0)
    first = ends[block_start][np.searchsorted(block_start, np.arange(len(group)), side="right") - 1]
    tile = (ends[:-1] - first) // TILE_FRAMES
    begin = np.flatnonzero((np.diff(of, prepend=-2) != 0) | (np.diff(tile, prepend=-1) != 0))
    end = np.append(begin[1:], len(group))
    used = np.add.reduceat(pairs[group], begin) > 0
    return Tiles(group, begin[used], end[used])
