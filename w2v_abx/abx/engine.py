"""Score a plan: align once each pair of items that some cell needs, then count triplets by rank.

Distances lie in blocks of the distance matrix, which are worked on in batches (see :mod:`w2v_abx.abx.blocks`). What a
call of a kernel computes does not depend on which thread runs it, nor when, so neither do the results.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from w2v_abx.abx import accelerator, counting, dtw
from w2v_abx.abx.blocks import Batch, cut_batches
from w2v_abx.abx.cells import Cells
from w2v_abx.abx.counting import Results
from w2v_abx.abx.deltas import Triplets
from w2v_abx.abx.dtw import FrameRows
from w2v_abx.abx.frames import Frames

__all__ = ["Plan"]

Floats = npt.NDArray[np.float32]
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
        # The X of a cell says which block it needs, and blocks follow the order of their groups.
        x = cells.groups[2]
        self.cell_order = np.argsort(x, kind="stable")
        self.triplet_order = np.argsort(x[triplets.cell], kind="stable")
        self.cell_x, self.triplet_x = x[self.cell_order], x[triplets.cell][self.triplet_order]

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

    def score(self, metric: int, frames: Frames, threads: int, batches: Sequence[Batch] | None = None) -> Results:
        """Score the ``frames`` of the cells' items, on which ``metric`` is defined, on ``threads`` threads.

        Only ``batches`` are scored, if any are named.
        """
        cells, drawn = len(self.cells.size), len(self.triplets.cell)
        results = Results(
            np.zeros(cells, np.int64), np.zeros(cells), np.zeros(cells), np.zeros(cells), np.zeros(drawn, np.float32)
        )
        with Workers(threads) as workers:
            for batch in self.batches if batches is None else batches:
                items = slice(*self.cells.starts[[batch.groups.start, batch.groups.stop]])
                low, high = np.searchsorted(self.cell_x, [batch.rows.start, batch.rows.stop])
                cells_here = self.cell_order[low:high]
                groups = self.cells.groups[:, cells_here] - batch.groups.start
                needed = _needed(batch, groups)
                if frames.device is None:
                    rows = _prepare(metric, frames, items, workers)
                    distances = _align(batch, needed, metric, rows, workers)
                else:
                    values = frames.together(items.start, items.stop)
                    distances = accelerator.align(batch, needed, metric, values, frames.lengths[items])
                self._sample(batch, distances, results)
                self._count(batch, items, cells_here, groups, needed, distances, results, workers)
        return results

    def _sample(self, batch: Batch, distances: Floats, results: Results) -> None:
        low, high = np.searchsorted(self.triplet_x, [batch.rows.start, batch.rows.stop])
        drawn = self.triplet_order[low:high]
        groups = self.cells.groups[:, self.triplets.cell[drawn]] - batch.groups.start
        a, b, x = batch.layout.starts[groups] + self.triplets.places[:, drawn]
        row = batch.layout.base[groups[2]] + x * batch.layout.columns[groups[2]]
        results.deltas[drawn] = distances[row + b] - distances[row + a]

    def _count(
        self,
        batch: Batch,
        items: slice,
        cells: Integers,
        groups: Integers,
        needed: npt.NDArray[np.bool_],
        distances: Floats,
        results: Results,
        workers: "Workers",
    ) -> None:
        layout, sizes = batch.layout, np.diff(batch.layout.starts)
        a, b, x = sizes[groups]
        if self.cells.constraints is not None:
            own = self.cells.constraints._replace(codes=self.cells.constraints.codes[:, items])
            workers.run(
                x * a * b,
                lambda i, j: counting.count_constrained(layout, groups, cells, own, i, j, distances, results),
            )
            return
        g, h = np.nonzero(needed)
        workers.run(sizes[g] * sizes[h], lambda i, j: counting.sort(layout, g, h, i, j, distances))
        workers.run(x * (a + b), lambda i, j: counting.count(layout, groups, cells, i, j, distances, results))


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


def _needed(batch: Batch, groups: Integers) -> npt.NDArray[np.bool_]:
    """Which groups of a batch its cells compare, (G, G); within a block of rows, each pair in one order alone."""
    block, x = batch.layout.block, groups[2]
    needed = np.zeros((len(block), len(block)), dtype=np.bool_)
    for other in groups[:2]:
        swap = (block[x] == block[other]) & (x > other)
        needed[np.where(swap, other, x), np.where(swap, x, other)] = True
    return needed


def _align(batch: Batch, needed: npt.NDArray[np.bool_], metric: int, frames: FrameRows, workers: Workers) -> Floats:
    """The distances of a batch, of which those between groups that are ``needed`` are filled in."""
    distances = np.empty(batch.size, dtype=np.float32)
    layout, ends = batch.layout, frames.ends
    group = np.repeat(np.arange(len(batch.groups)), np.diff(layout.starts))
    begin, end = _tiles(layout.block[group], ends)
    used = np.add.reduceat(np.any(needed, axis=1)[group], begin) > 0
    begin, end = begin[used], end[used]
    # What a tile costs: its frames, times those of the groups that theirs are compared with.
    partners = np.einsum("gh,h->g", needed, np.diff(ends[layout.starts]))
    costs = np.concatenate([[0], np.cumsum(np.diff(ends) * partners[group])]) + ends
    workers.run(
        costs[end] - costs[begin],
        lambda i, j: dtw.align(metric, frames, layout, group, needed, begin[i:j], end[i:j], distances),
    )
    return distances


def _prepare(metric: int, frames: Frames, items: slice, workers: Workers) -> FrameRows:
    """Prepare the frames of some items for the kernels."""
    lengths = frames.lengths[items]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    left = np.empty((ends[-1] + dtw.SPARE_ROWS, frames.files[0].shape[1]), dtype=np.float32)
    left[ends[-1] :] = 0.0
    logs = np.zeros_like(left) if metric == dtw.KL_SYMMETRIC else left[:0]
    null = np.zeros(ends[-1], dtype=np.bool_)

    def prepare(first: int, last: int) -> None:
        each = frames.each(items.start + first, items.start + last)
        for own, row in zip(each, ends[first:last].tolist(), strict=True):
            dtw.prepare(metric, own, row, left, logs, null)

    workers.run(lengths, prepare)
    return FrameRows(left, logs, null, bool(null.any()), ends, int(lengths.max()))


def _tiles(block: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Cut items, each of a ``block``, into tiles of about ``TILE_FRAMES`` frames of one block: their first and last."""
    edge = np.diff(block, prepend=-2) != 0
    first = ends[np.flatnonzero(edge)][np.cumsum(edge) - 1]
    tile = (ends[:-1] - first) // TILE_FRAMES
    begin = np.flatnonzero(edge | (np.diff(tile, prepend=-1) != 0))
    return begin, np.append(begin[1:], len(block))
