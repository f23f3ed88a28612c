"""Delta values of given triplets."""

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

from w2v_abx.abx.distances import check_distance
from w2v_abx.abx.engine import align_pairs
from w2v_abx.abx.frames import Frames, WholeFiles, cut_frames
from w2v_abx.abx.given import GivenTriplets
from w2v_abx.abx.human import HumanComparison, compare_with_listeners
from w2v_abx.abx.pooling import check_pooling, pool
from w2v_abx.abx.scoring import processors
from w2v_abx.errors import InputError
from w2v_abx.items.items import exact_frequency

__all__ = ["TripletScores", "check_options", "score_triplets"]


@dataclass(frozen=True, eq=False)
class TripletScores:
    """The delta values of given triplets.

    Attributes:
        triplets: the triplets.
        distance_tgt, distance_oth: (T,) distances of each triplet's TGT and OTH to its X; nan where one of the three
            has no frame.
        skipped: the stimuli left out for having no frame, with ``where`` and ``reason``.
        clipped: how many stimuli lost their last frame because the features of their file end one frame early.
    """

    triplets: GivenTriplets
    distance_tgt: npt.NDArray[np.float64]
    distance_oth: npt.NDArray[np.float64]
    skipped: pl.DataFrame
    clipped: int

    @property
    def delta(self) -> npt.NDArray[np.float64]:
        """(T,) d(OTH, X) − d(TGT, X): above zero where TGT is the nearer; nan where a stimulus has no frame."""
        return self.distance_oth - self.distance_tgt

    @cached_property
    def _known(self) -> npt.NDArray[np.float64]:
        return self.delta[np.isfinite(self.delta)]

    @property
    def scored(self) -> int:
        """The number of triplets with a delta value."""
        return len(self._known)

    @cached_property
    def distance_mean(self) -> float:
        """The mean over triplets of (d(TGT, X) + d(OTH, X)) / 2."""
        return float(np.nanmean((self.distance_tgt + self.distance_oth) / 2))

    @property
    def _scale(self) -> float:
        return 1 / self.distance_mean if self.distance_mean > 0 else 0.0  # All distances zero: all deltas are.

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The rows as published, with ``delta``, ``delta_scale_free`` (divided by the mean distance),
        ``distance_tgt`` and ``distance_oth`` (in the place of columns of these names); null where there is none.
        """
        values = {
            "delta": self.delta,
            "delta_scale_free": self.delta * self._scale,
            "distance_tgt": self.distance_tgt,
            "distance_oth": self.distance_oth,
        }
        return self.triplets.frame.with_columns(
            pl.Series(name, column[self.triplets.triplet]).fill_nan(None) for name, column in values.items()
        )

    def error(self) -> float:
        """The share of triplets in which OTH is nearer to X than TGT is, ties counting one half; each triplet once."""
        return float(((self._known < 0) + 0.5 * (self._known == 0)).mean())

    def summary(self) -> dict[str, float | int]:
        """Error, number of triplets, and moments of their delta values, raw and scale-free."""
        mean, std = float(self._known.mean()), float(self._known.std())
        return {
            "error": self.error(),
            "triplets": self.scored,
            "skipped_triplets": len(self.delta) - self.scored,
            "delta_mean": mean,
            "delta_std": std,
            "delta_scale_free_mean": mean * self._scale,
            "delta_scale_free_std": std * self._scale,
            "distance_mean": self.distance_mean,
        }

    def human(self) -> HumanComparison | None:
        """The delta values beside responses or accuracies of listeners; None if the table has neither."""
        rows = self.delta[self.triplets.triplet]
        return compare_with_listeners(self.triplets.frame, self.triplets.triplet, rows, self.triplets.table.where)


def score_triplets(
    features: Mapping[str, Any],
    triplets: GivenTriplets,
    *,
    frequency: float | str | Decimal | Fraction,
    distance: str = "angular",
    pooling: str | None = None,
    threads: int | None = None,
) -> TripletScores:
    """Score given triplets: a mapping from their files to (T, D) arrays or tensors in, a delta value each out.

    Each pair of stimuli is aligned once, however many triplets and responses share it.

    Args:
        frequency, distance, threads: as of :class:`w2v_abx.abx.Scorer`.
        pooling: None aligns stimuli by DTW; "mean" and "hamming" compare one pooled frame of each.

    Raises:
        InputError: an argument is out of range, the features do not fit the stimuli (see
            :func:`w2v_abx.abx.frames.cut_frames`) or the distance, or no triplet has frames of all three.
    """
    check_options(distance, pooling)
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1 (or null for all), not {threads}.")
    frames = cut_frames(features, triplets.items, exact_frequency(frequency))
    _warn(frames, triplets)
    number = np.full(len(triplets.items), -1, dtype=np.int64)
    number[frames.rows] = np.arange(len(frames.rows))
    first = triplets.first
    tgt, oth, x = (number[rows[first]] for rows in (triplets.tgt, triplets.oth, triplets.x))
    known = (tgt >= 0) & (oth >= 0) & (x >= 0)
    if not known.any():
        raise InputError(f"{triplets.table.source}: no triplet has a frame in all three stimuli at {frequency} Hz.")
    if pooling is not None:
        frames = pool(frames, pooling)
    metric = check_distance(distance, frames)
    assert isinstance(frames.values, WholeFiles)  # on the host, as no device was given
    pairs = np.stack([np.concatenate([tgt[known], oth[known]]), np.tile(x[known], 2)])
    distinct, at = np.unique(pairs, axis=1, return_inverse=True)
    aligned = align_pairs(
        metric, frames.values, frames.starts, frames.lengths, distinct[0], distinct[1], threads or processors()
    )
    distances = np.full((2, len(first)), np.nan)
    distances[:, known] = aligned[at.ravel()].reshape(2, -1)
    return TripletScores(triplets, distances[0], distances[1], frames.skipped, frames.clipped)


def check_options(distance: str, pooling: str | None) -> None:
    """Raises InputError unless there is such a distance and such a pooling."""
    check_distance(distance)
    check_pooling(pooling)


def _warn(frames: Frames, triplets: GivenTriplets) -> None:
    if frames.skipped.height:
        first = frames.skipped.row(0, named=True)
        warnings.warn(
            f"{frames.skipped.height} of {len(triplets.items)} stimuli have no frame, and triplets with them are left "
            f"out, the first: {first['where']} ({first['reason']}).",
            stacklevel=3,
        )
