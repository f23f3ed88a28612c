"""Scoring: features, items and a task in, errors and delta values out."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.abx.averaging import Levels, average_error
from w2v_abx.abx.cells import build_cells
from w2v_abx.abx.deltas import DeltaSummary, draw_triplets, summarise
from w2v_abx.abx.distances import check_distance
from w2v_abx.abx.engine import Plan, Results
from w2v_abx.abx.frames import Frames, cut_frames
from w2v_abx.abx.items import Items, exact_frequency
from w2v_abx.abx.task import Task
from w2v_abx.errors import InputError

__all__ = ["Scorer", "Scores", "score"]


@dataclass(frozen=True, eq=False)
class Scores:
    """The scored cells of a task.

    Attributes:
        cells: a row for each cell: ON, BY…, ACROSS…, ON ``_b`` and ACROSS ``_x``; ``score``, the cell's error;
            ``size``, its triplets; ``delta_sum`` and ``delta_square_sum`` over them; ``distance_mean``, the mean over
            them of (d(A, X) + d(B, X)) / 2.
        task: the task.
        skipped: the items left out for having no frame: their columns, ``where`` and ``reason``.
        clipped: how many items lost their last frame because the features of their file end one frame early.
    """

    cells: pl.DataFrame
    task: Task
    skipped: pl.DataFrame
    clipped: int
    _deltas: npt.NDArray[np.float32]

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

    @cached_property
    def delta(self) -> DeltaSummary:
        """The delta values of all triplets."""
        return summarise(self.cells, self._deltas)


class Scorer:
    """Scores any number of feature sets (layers, models) on the same items and task; the cells are built once.

    Args:
        items: the items.
        task: the task.
        frequency: frames a second of the features; a float means the decimal number it prints as.
        distance: ``angular`` (arccos of the cosine over π; also ``cosine``), ``euclidean``, ``kl_symmetric`` (frames
            that are probabilities) or ``identical`` (0 or 1); items are aligned by DTW, the mean along the path.
        max_size_group: keep at most that many items of A, B and X in a cell, drawn with ``seed``.
        max_x_across: keep at most that many ACROSS values of X for each (A, B) pair, likewise.
        seed: also draws the triplets of the delta histograms.
        threads: CPU threads, None for all; the scores do not depend on it.

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
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        task.check(items.labels)
        check_distance(distance)
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1 (or null for all), not {threads}.")
        if seed < 0:
            raise InputError(f"The seed must be zero or more, not {seed}.")
        self.items, self.task, self.distance, self.seed = items, task, distance, seed
        self.frequency = exact_frequency(frequency)
        self.threads = threads or _processors()
        self._caps = {"max_size_group": max_size_group, "max_x_across": max_x_across}
        self._plan: tuple[npt.NDArray[np.int64], Plan] | None = None
        self._warned = False

    def __call__(self, features: Mapping[str, Any]) -> Scores:
        """Score features: for each file of the items, a (T, D) array or tensor; scored in float32.

        Raises:
            InputError: the features do not fit the items (see :func:`w2v_abx.abx.frames.cut_frames`) or the distance,
                or no cell can be formed.
        """
        frames = cut_frames(features, self.items, self.frequency)
        self._warn(frames)
        metric = check_distance(self.distance, frames.values)
        plan = self._plan_for(frames)
        at = np.searchsorted(frames.rows, plan.cells.items)
        results = plan.score(metric, frames.values, frames.starts[at], frames.lengths[at], self.threads)
        return Scores(_table(plan, results), self.task, frames.skipped, frames.clipped, results.deltas)

    def _plan_for(self, frames: Frames) -> Plan:
        # Which items have frames may change with the features' lengths, though it hardly ever does.
        if self._plan is None or not np.array_equal(self._plan[0], frames.rows):
            cells = build_cells(self.items, frames.rows, self.task, seed=self.seed, **self._caps)
            self._plan = frames.rows, Plan(cells, draw_triplets(cells, self.seed))
        return self._plan[1]

    def _warn(self, frames: Frames) -> None:
        if frames.skipped.height and not self._warned:
            self._warned = True
            first = frames.skipped.row(0, named=True)
            warnings.warn(
                f"{frames.skipped.height} of {len(self.items)} items have no frame at {float(self.frequency):g} Hz and "
                f"are left out, the first: {first['where']} ({first['reason']}); Scores.skipped names them all.",
                stacklevel=3,
            )


def score(
    features: Mapping[str, Any],
    items: Items,
    task: Task,
    *,
    frequency: float | str | Decimal | Fraction,
    distance: str = "angular",
    max_size_group: int | None = None,
    max_x_across: int | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Scores:
    """Score one set of features: a mapping from the items' ``#file`` to a (T, D) array or tensor.

    Arguments and errors are those of :class:`Scorer`, which scores several sets for less.
    """
    scorer = Scorer(
        items,
        task,
        frequency=frequency,
        distance=distance,
        max_size_group=max_size_group,
        max_x_across=max_x_across,
        seed=seed,
        threads=threads,
    )
    return scorer(features)


def _processors() -> int:
    # Those that this process may use, where the system can tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _table(plan: Plan, results: Results) -> pl.DataFrame:
    size = plan.cells.size
    return plan.cells.frame.with_columns(
        score=pl.Series(results.lost / (2 * size)),
        size=pl.Series(size),
        delta_sum=pl.Series(results.delta_sum),
        delta_square_sum=pl.Series(results.delta_square_sum),
        distance_mean=pl.Series(results.distance_mean),
    )
