"""Score listener triplets: a delta value for each, from the engine that scores cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.abx.listeners.agreement import Agreement, compare_with_listeners
from w2v_abx.abx.listeners.triplets import ListenerTriplets
from w2v_abx.abx.scoring import Scorer, Scores
from w2v_abx.abx.task import Task
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, OFFSET, ONSET

__all__ = ["TripletScores", "score_triplets"]

# As a task: of each triplet, TGT and OTH were played together, and X has the category of TGT.
TASK = Task(on="category", by=["triplet"], across=["played"])


@dataclass(frozen=True, eq=False)
class TripletScores:
    """The delta values of listener triplets.

    Attributes:
        triplets: the triplets.
        scores: their cells, one for each triplet of which all three stimuli have a frame.
        skipped: the stimuli left out for having no frame, with ``where`` and ``reason``.
    """

    triplets: ListenerTriplets
    scores: Scores
    skipped: pl.DataFrame

    @property
    def clipped(self) -> int:
        """How many stimuli, counted in each triplet, lost their last frame as the features of their file end early."""
        return self.scores.clipped

    @cached_property
    def delta(self) -> npt.NDArray[np.float64]:
        """(T,) d(OTH, X) − d(TGT, X): above zero where TGT is the nearer; nan where a stimulus has no frame."""
        return self._of_triplets("delta_sum")

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The rows as published, with ``delta``, ``delta_scale_free`` (divided by the mean distance),
        ``distance_tgt`` and ``distance_oth`` (in the place of columns of these names); null where there is none.
        """
        mean, distance = self._of_triplets("distance_mean"), self.scores.delta.distance_mean
        values = {
            "delta": self.delta,
            "delta_scale_free": self.delta / distance if distance > 0 else self.delta,  # no distance: no delta either
            "distance_tgt": mean - self.delta / 2,
            "distance_oth": mean + self.delta / 2,
        }
        return self.triplets.frame.with_columns(
            pl.Series(name, column[self.triplets.triplet]).fill_nan(None) for name, column in values.items()
        )

    def _of_triplets(self, column: str) -> npt.NDArray[np.float64]:
        values = np.full(len(self.triplets.first), np.nan)
        values[self.scores.cells["triplet"].cast(pl.Int64).to_numpy()] = self.scores.cells[column].to_numpy()
        return values

    def summary(self) -> dict[str, float | int]:
        """Error, number of triplets, and moments of their delta values, raw and scale-free; each triplet once."""
        delta = self.scores.delta
        return {
            "error": self.scores.error(weighted=True),
            "triplets": self.scores.triplets,
            "skipped_triplets": len(self.delta) - self.scores.triplets,
            "delta_mean": delta.mean,
            "delta_std": delta.std,
            "delta_scale_free_mean": delta.scale_free_mean,
            "delta_scale_free_std": delta.scale_free_std,
            "distance_mean": delta.distance_mean,
        }

    @cached_property
    def agreement(self) -> Agreement | None:
        """The delta values beside responses or accuracies of listeners; None if the table has neither."""
        rows = self.delta[self.triplets.triplet]
        return compare_with_listeners(self.triplets.frame, self.triplets.triplet, rows, self.triplets.table.where)


def score_triplets(features: Mapping[str, Any], triplets: ListenerTriplets, **options: Any) -> TripletScores:
    """Score listener triplets: a mapping from their files to (T, D) arrays or tensors in, a delta value each out.

    A triplet is a cell of the three stimuli alone. ``options`` are those of :class:`w2v_abx.abx.Scorer`, of which
    ``frequency`` is needed and ``deltas`` is set.

    Raises:
        InputError: an argument is out of range, the features do not fit the stimuli (see
            :func:`w2v_abx.abx.frames.cut_frames`) or the distance, or no triplet has frames of all three.
    """
    stimuli = triplets.stimuli[:, triplets.first]
    count = stimuli.shape[1]
    items = triplets.items.take(stimuli.ravel()).labelled(
        category=np.repeat(["TGT", "OTH", "TGT"], count),
        triplet=np.tile(np.arange(count), 3).astype(str),
        played=np.repeat(["pair", "pair", "X"], count),
    )
    scorer = Scorer(items, TASK, deltas=1, **options)
    starts, stops = triplets.items.spans(scorer.frequency)
    if not (stops > starts)[stimuli].all(axis=0).any():
        raise InputError(
            f"{triplets.table.source}: no triplet has a frame in all three stimuli at {float(scorer.frequency):g} Hz."
        )
    scores = scorer(features)
    skipped = scores.skipped.select(FILE, ONSET, OFFSET, "where", "reason").unique(maintain_order=True)
    return TripletScores(triplets, scores, skipped)
