"""The engine: aligns once each pair of items that some cell needs, then counts triplets by rank.

Distances lie in panels, which are worked on in batches (see :mod:`w2v_abx.abx.panels`). What a piece of work computes
does not depend on which thread runs it, nor when, so neither do the results.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from w2v_abx.abx import accelerator, alignment, counting
from w2v_abx.abx.cells import Cells
from w2v_abx.abx.deltas import Triplets
from w2v_abx.abx.frames import WholeFiles
from w2v_abx.abx.panels import Batch, cut_batches

__all__ = ["Plan", "Results", "align_pairs"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TILE = 256  # frames of a tile of items that are aligned with others, about
CHUNKS = 8  # pieces of work for each thread, so that none waits long for the others


@dataclass(frozen=True)
class Results:
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


class Plan:
    """The order of work for some cells and sampled triplets. One plan scores any number of sets of features.

    Its batches can be divided over ``ranks``; of each, the results of the others' cells are zero.
    """

    def __init__(self, cells: Cells, triplets: Triplets, ranks: int = 1) -> None:
        self.cells, self.triplets = cells, triplets
        self.batches = cut_batches(cells, ranks)
        panel = np.concatenate([batch.panel[batch.own] for batch in self.batches])
        # The X of a cell says which panel it needs, and panels follow the order of their groups.
        self.cell_order = np.argsort(cells.x, kind="stable")
        self.triplet_order = np.argsort(cells.x[triplets.cell], kind="stable")
        self.cell_x, self.triplet_x = cells.x[self.cell_order], cells.x[triplets.cell][self.triplet_order]
        x, other = np.tile(cells.x, 2), np.concatenate([cells.a, cells.b])
        swap = (panel[x] == panel[other]) & (x > other)
        pairs = np.unique(np.where(swap, other, x) * len(panel) + np.where(swap, x, other))
        self.pair_g, self.pair_h = np.divmod(pairs, len(panel))

    def share(self, rank: int, ranks: int) -> list[Batch]:
        """The batches of one rank of several: about as many distances as any other's."""
        loads = [0] * ranks
        mine = []
        for batch in sorted(self.batches, key=lambda batch: (-batch.area, batch.rows.start)):
            lightest = loads.index(min(loads))
            loads[lightest] += batch.area
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
        triplets, cells, first = self.triplets, self.cells, batch.groups.start
        cell = triplets.cell[drawn]
        g = cells.x[cell] - first
        a = batch.starts[cells.a[cell] - first] + triplets.a[drawn]
        b = batch.starts[cells.b[cell] - first] + triplets.b[drawn]
        x = batch.starts[g] + triplets.x[drawn]
        row = batch.base[g] + x * batch.columns[g]
        results.deltas[drawn] = distances[row + b] - distances[row + a]

    def _count(
        self, batch: Batch, g: Integers, h: Integers, distances: Floats, results: Results, workers: "Workers"
    ) -> None:
        sizes = np.diff(batch.starts)
        low, high = np.searchsorted(self.cell_x, [batch.rows.start, batch.rows.stop])
        cell = self.cell_order[low:high]
        a, b, x = (group[cell] - batch.groups.start for group in (self.cells.a, self.cells.b, self.cells.x))
        if self.cells.constraints is not None:
            tests = self.cells.constraints.tests
            codes = self.cells.constraints.codes[:, self._items(batch)]
            workers.run(
                sizes[x] * sizes[a] * sizes[b],
                lambda i, j: counting.count_constrained(
                    batch.starts, batch.base, batch.columns, a, b, x, cell, codes, tests, i, j, distances, results.lost,
                    results.delta_sum, results.delta_square_sum, results.distance_mean,
                ),
            )  # fmt: skip
            return
        workers.run(
            sizes[g] * sizes[h],
            lambda i, j: counting.sort(batch.starts, batch.base, batch.columns, batch.panel, g, h, i, j, distances),
        )
        workers.run(
            sizes[x] * (sizes[a] + sizes[b]),
            lambda i, j: counting.count(
                batch.starts, batch.base, batch.columns, a, b, x, cell, i, j, distances, results.lost,
                results.delta_sum, results.delta_square_sum, results.distance_mean,
            ),
        )  # fmt: skip


class Workers:
    """Threads that share out a range of work."""

    def __init__(self, threads: int) -> None:
        self._pieces = threads * CHUNKS
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, costs: Integers, work: Callable[[int, int], None]) -> None:
        """Call ``work(i, j)`` for consecutive ranges i:j of about equal cost, and wait for all."""
        if len(costs):
            ends = np.cumsum(costs)
            cuts = np.searchsorted(ends, np.linspace(0, ends[-1], self._pieces + 1)[1:-1])
            edges = np.unique([0, *cuts.tolist(), len(costs)]).tolist()
            list(self._pool.map(work, edges[:-1], edges[1:]))


def _align(batch: Batch, g: Integers, h: Integers, metric: int, prepared: "Prepared", workers: Workers) -> Floats:
    """The distances of a batch, of which those between the groups g and h are filled in."""
    distances = np.empty(batch.area, dtype=np.float32)
    ends = prepared.ends
    lengths = np.diff(ends)
    group = np.repeat(np.arange(len(batch.groups)), np.diff(batch.starts))
    pairs = np.searchsorted(g, np.arange(len(batch.groups) + 1))
    begin, end = _tiles(group, batch.panel, ends, np.diff(pairs))
    # What a tile costs: its frames, times those of the groups that theirs are paired with.
    frames = np.diff(ends[batch.starts])
    partners = np.bincount(g, weights=frames[h], minlength=len(frames))
    costs = np.concatenate([[0], np.cumsum(lengths * partners[group])]) + ends
    workers.run(
        costs[end] - costs[begin],
        lambda i, j: alignment.align(
            metric, *prepared.arguments, batch.starts, batch.base, batch.columns, batch.panel, pairs, h, group, begin,
            end, i, j, distances,
        ),
    )  # fmt: skip
    return distances


def align_pairs(
    metric: int, values: WholeFiles, starts: Integers, lengths: Integers, x: Integers, y: Integers, threads: int
) -> Floats:
    """The distances from items ``x`` (P,) to items ``y`` (P,): (P,). The frames are as for :meth:`Plan.score`."""
    order = np.argsort(y, kind="stable")
    distances = np.empty(len(x), dtype=np.float32)
    with Workers(threads) as workers:
        room = np.empty((int(lengths.sum()) + alignment.SPARE_ROWS, values.width), dtype=np.float32)
        prepared = _prepare(metric, values, starts, lengths, workers, room)
        workers.run(
            lengths[x[order]] * lengths[y[order]],
            lambda i, j: alignment.align_given(metric, *prepared.arguments, x[order], y[order], i, j, distances),
        )
    distances[order] = distances.copy()
    return distances


@dataclass(frozen=True)
class Prepared:
    """Frames of items as the kernels take them: item by item, those of item i from row ``ends[i]`` to ``ends[i + 1]``.

    Attributes:
        left, logs, null: see :func:`w2v_abx.abx.alignment.prepare`.
    """

    left: Floats
    logs: Floats
    null: npt.NDArray[np.bool_]
    ends: Integers

    @property
    def arguments(self) -> tuple[Floats, Floats, npt.NDArray[np.bool_], bool, Integers, int]:
        """The arguments of a kernel that aligns, after the metric."""
        return self.left, self.logs, self.null, bool(self.null.any()), self.ends, int(np.diff(self.ends).max())


def _prepare(
    metric: int, values: WholeFiles, starts: Integers, lengths: Integers, workers: Workers, room: Floats
) -> Prepared:
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
    return Prepared(left, logs, null, ends)


def _tiles(group: Integers, panel: Integers, ends: Integers, pairs: Integers) -> tuple[Integers, Integers]:
    """Cut the items of each panel into tiles of about ``TILE`` frames: the items begin:end, of groups with pairs."""
    of = panel[group]
    panel_start = np.flatnonzero(np.diff(of, prepend=-2) != 0)
    first = ends[panel_start][np.searchsorted(panel_start, np.arange(len(group)), side="right") - 1]
    tile = (ends[:-1] - first) // TILE
    begin = np.flatnonzero((np.diff(of, prepend=-2) != 0) | (np.diff(tile, prepend=-1) != 0))
    end = np.append(begin[1:], len(group))
    used = np.add.reduceat(pairs[group], begin) > 0
    return begin[used], end[used]
