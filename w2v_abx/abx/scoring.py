"""Scoring: features, items and a task in, errors and delta values out."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.abx.averaging import Levels, average_error, collapse
from w2v_abx.abx.cells import build_cells
from w2v_abx.abx.counting import Results
from w2v_abx.abx.deltas import SAMPLE, DeltaSummary, draw_triplets, summarise
from w2v_abx.abx.device import resolve_device
from w2v_abx.abx.distances import check_distance
from w2v_abx.abx.engine import Plan
from w2v_abx.abx.frames import Frames, cut_frames, skipped_items
from w2v_abx.abx.pooling import check_pooling, pool
from w2v_abx.abx.task import Task
from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.errors import InputError
from w2v_abx.items.frames import SLICINGS, exact_frequency
from w2v_abx.items.items import FILE, OFFSET, ONSET, Items
from w2v_abx.items.names import bare
from w2v_abx.system.checks import choice, whole
from w2v_abx.system.machine import processors

__all__ = ["Scorer", "Scores", "score"]


@dataclass(frozen=True, eq=False)
class Scores:
    """The scored cells of a task.

    Attributes:
        cells: a row for each cell: ON, BY…, ACROSS…, ON ``_b`` and ACROSS ``_x``; ``score``, the cell's error;
            ``size``, its triplets; ``delta_sum`` and ``delta_square_sum`` over them; ``distance_mean``, the mean over
            them of (d(A, X) + d(B, X)) / 2.
        task: the task.
        items: how many items are in some cell.
        skipped: the items left out, for having no frame or being listed twice: their columns, ``where`` and ``reason``.
        clipped: how many items lost their last frame because the features of their file end one frame early.
    """

    cells: pl.DataFrame
    task: Task
    items: int
    skipped: pl.DataFrame
    clipped: int
    _sample: Callable[[], pl.DataFrame]

    @property
    def triplets(self) -> int:
        """The number of triplets of all cells."""
        return int(self.cells["size"].sum())

    def error(self, levels: Levels | None = None, weighted: bool = False) -> float:
        """The error of the task, from 0 to 1.

        Cells are averaged over ``levels``, one after another (the task's own where None: over contexts, then speakers,
        then other ACROSS columns), then over ON pairs; with ``weighted`` instead, over all triplets alike.

        Raises:
            InputError: a level is not a column of BY or ACROSS, or both arguments are given.
        """
        if weighted and levels is not None:
            raise InputError("An error is either averaged over levels or weighted by triplets: give one of the two.")
        return average_error(
            self.cells, self.task.on, self.task.levels if levels is None else levels, weighted=weighted
        )

    def per(self, *columns: str, levels: Levels | None = None) -> pl.DataFrame:
        """Errors by phone pair (``per("#phone", "#phone_b")``), by speaker (``per("speaker")``), and so on.

        Cells are averaged over those ``levels`` that are not among the columns, then over what is left of each ON pair,
        then over ON pairs.

        Returns:
            The columns, ``score`` and ``size``, a row for each combination, sorted.

        Raises:
            InputError: a column or level is not one of the cells.
        """
        on = self.task.on
        known = (on, f"{on}_b", *self.task.by, *self.task.across)
        for name in columns:
            if name not in known:
                raise InputError(f"There are no errors per '{name}': the cells have {', '.join(known)}.")
        used = self.task.levels if levels is None else levels
        steps = [(level,) if isinstance(level, str) else level for level in used]
        others = [kept for step in steps if (kept := tuple(name for name in step if name not in columns))]
        pairs = collapse(self.cells, on, others)
        for keys in (list(dict.fromkeys([*columns, on, f"{on}_b"])), list(dict.fromkeys(columns))):
            means = pl.col("score").mean(), pl.col("size").sum()
            pairs = pairs.group_by(keys, maintain_order=True).agg(means)
        return pairs.sort(columns)

    @cached_property
    def deltas(self) -> pl.DataFrame:
        """Sampled triplets (all, where they are few): ``cell``, their row in ``cells``; ``a``, ``b`` and ``x``, the
        rows of their items in the item table; and ``delta``, d(B, X) − d(A, X)."""
        return self._sample()

    @cached_property
    def delta(self) -> DeltaSummary:
        """The delta values of all triplets."""
        return summarise(self.cells, self.deltas["delta"].to_numpy())


class Scorer:
    """Scores any number of feature sets (layers, models) on the same items and task; the cells are built once.

    Args:
        items: the items.
        task: the task.
        frequency: frames a second of the features; a float means the decimal number it prints as.
        distance: ``angular`` (arccos of the cosine over π; also ``cosine``), ``euclidean``, ``kl_symmetric`` (frames
            that are probabilities) or ``identical`` (0 or 1).
        pooling: None aligns items by DTW, and their distance is the mean along the path; ``mean`` and ``hamming``
            compare one pooled frame of each.
        max_size_group: keep at most that many items of A, B and X in a cell, drawn with ``seed``.
        max_x_across: keep at most that many ACROSS values of X for each (A, B) pair, likewise; no
            effect on a task without ACROSS.
        slicing: which frames are an item's: "exact", or "librilight": one less, as published before 2025; see
            `w2v_abx.items.frames.frame_spans`.
        deltas: how many triplets to draw for the delta histograms and ``Scores.deltas``; None takes all.
        seed: of the caps and of the triplets drawn.
        threads: CPU threads, None for all; the scores do not depend on it.
        device: that aligns items: ``cpu``, ``cuda``, ``cuda:1`` …, ``mps``, ``xpu`` or ``auto``, an accelerator where
            PyTorch finds one. Scores are those of the CPU but for near ties.

    Raises:
        InputError: an argument is out of range, or the items lack a column of the task.
    """

    def __init__(
        self,
        items: Items,
        task: Task,
        *,
        frequency: float | str | Decimal | Fraction,
        distance: str = "angular",
        max_size_group: int | None = None,
        max_x_across: int | None = None,
        pooling: str | None = None,
        slicing: str = "exact",
        deltas: int | None = SAMPLE,
        seed: int = 0,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        task.check(items.labels)
        check_distance(distance)
        check_pooling(pooling)
        choice("slicing", slicing, SLICINGS)
        whole("deltas", deltas, 1, optional="for all")
        whole("threads", threads, 1, optional="for all")
        whole("seed", seed, 0)
        self.items, self.task, self.distance, self.seed = items, task, distance, seed
        self.frequency, self.pooling, self.deltas = exact_frequency(frequency), pooling, deltas
        self.slicing = slicing
        self.threads = threads or processors()
        self._repeated = _repeated(items, task, self.frequency)
        self._device = device
        resolve_device(device)
        self._caps = {"max_size_group": max_size_group, "max_x_across": max_x_across}
        self._plan: tuple[npt.NDArray[np.int64], int, Plan] | None = None
        self._warned = False

    def __call__(self, features: Mapping[str, Any], ranks: DistributedRanks | None = None) -> Scores:
        """Score features: for each file of the items, a (T, D) array or tensor; scored in float32.

        With ``ranks``, each of several processes that all have the features scores a part of the cells, and all get
        the scores of one process to the last bit.

        Raises:
            InputError: the features do not fit the items (see :func:`w2v_abx.abx.frames.cut_frames`) or the distance,
                or no cell can be formed.
        """
        # Now, not when this was made: a process that shares the work may have been given its own card since.
        device = resolve_device(self._device)
        on = None if device.type == "cpu" else device
        frames = cut_frames(features, self.items, self.frequency, on, self.slicing)
        frames = self._once(frames)
        self._warn(frames)
        metric = check_distance(self.distance, frames)
        if self.pooling is not None and len(frames.rows):
            frames = pool(frames, self.pooling)
        plan = self._plan_for(frames, 1 if ranks is None else ranks.size)
        frames = frames.take(np.searchsorted(frames.rows, plan.cells.items))
        batches = plan.batches if ranks is None else plan.share(ranks.rank, ranks.size)
        results = plan.score(metric, frames, self.threads, batches)
        if ranks is not None:
            results = Results(*(ranks.sum(values) for values in results))
        # After the sums over ranks, so that all of them raise.
        if not np.isfinite(results.distance_mean).all():
            raise InputError(
                f"The {self.distance} distances of these features overflow float32: scale the features down."
            )
        return Scores(
            _table(plan, results),
            self.task,
            len(plan.cells.items),
            frames.skipped,
            frames.clipped,
            partial(_deltas, plan, results.deltas),
        )

    def _plan_for(self, frames: Frames, ranks: int) -> Plan:
        # Which items have frames may change with the features' lengths, though it hardly ever does.
        if self._plan is None or self._plan[1] != ranks or not np.array_equal(self._plan[0], frames.rows):
            cells = build_cells(self.items, frames.rows, self.task, seed=self.seed, **self._caps)
            self._plan = frames.rows, ranks, Plan(cells, draw_triplets(cells, self.seed, self.deltas), ranks)
        return self._plan[2]

    def _once(self, frames: Frames) -> Frames:
        """Leave out items that are listed twice."""
        again = self._repeated[frames.rows]
        if not again.any():
            return frames
        rows = frames.rows[again]
        twice = skipped_items(self.items, rows, np.full(len(rows), "listed twice"))
        return replace(frames.take(np.flatnonzero(~again)), skipped=pl.concat([frames.skipped, twice]))

    def _warn(self, frames: Frames) -> None:
        if frames.skipped.height and not self._warned:
            self._warned = True
            counts = frames.skipped["reason"].value_counts(sort=True).rows()
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
            warnings.warn(
                f"{frames.skipped.height} of {len(self.items)} items are left out at {float(self.frequency):g} Hz "
                f"({reasons}), the first: {frames.skipped['where'][0]}; Scores.skipped names them all.",
                stacklevel=3,
            )


def score(features: Mapping[str, Any], items: Items, task: Task, **options: Any) -> Scores:
    """Score one set of features: a mapping from the items' ``#file`` to a (T, D) array or tensor.

    ``options`` (``frequency`` is needed) and errors are those of :class:`Scorer`, which scores several sets for less.
    """
    return Scorer(items, task, **options)(features)


def _repeated(items: Items, task: Task, frequency: Fraction) -> npt.NDArray[np.bool_]:
    """Which items are the same frames of the same file, under the same labels of the task, as one before them.

    As A and X of a triplet they would be at distance zero. A file's name may have an ending here and none there.
    """
    starts, stops = items.spans(frequency)
    files = items.frame[FILE].replace({name: bare(name) for name in items.frame[FILE].unique()})
    labels = items.frame.select(task.columns)
    spans = labels.with_columns(files, pl.Series(ONSET, starts), pl.Series(OFFSET, stops))
    return ~spans.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()


def _table(plan: Plan, results: Results) -> pl.DataFrame:
    size = plan.cells.size
    return plan.cells.frame.with_columns(
        score=pl.Series(results.lost / (2 * size)),
        size=pl.Series(size),
        delta_sum=pl.Series(results.delta_sum),
        delta_square_sum=pl.Series(results.delta_square_sum),
        distance_mean=pl.Series(results.distance_mean),
    )


def _deltas(plan: Plan, values: npt.NDArray[np.float32]) -> pl.DataFrame:
    cells, drawn = plan.cells, plan.triplets
    a, b, x = cells.items[cells.starts[cells.groups[:, drawn.cell]] + drawn.places]
    return pl.DataFrame({"cell": drawn.cell, "a": a, "b": b, "x": x, "delta": values})
