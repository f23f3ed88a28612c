"""Similarity of each layer to labels and to the layer of the untrained model: CCA, SVCCA, PWCCA and linear CKA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.correlation.label_similarity import Settings, similarities
from w2v_abx.analysis.correlation.labelling import Partition, partitions
from w2v_abx.analysis.points import Level, Points, check_columns
from w2v_abx.items.items import Items
from w2v_abx.system.checks import boolean, choice, fail, number, whole

__all__ = ["Similarity", "describe"]


@dataclass(frozen=True)
class Similarity:
    """Correlate layers with one-hot labels, and with the same layer of the first model.

    See `w2v_abx.analysis.correlation.correlation` for the measures and for how units are held out.

    Attributes:
        labels: item columns; None: the known ones that have two values.
        layers: see `Analysis`.
        level: what is a point: "segments" or "frames".
        limit: points that are drawn where there are more; None: all are taken.
        variance: share that SVCCA keeps of each layer's.
        folds: that speakers are put in.
        permutations: of each label, whose mean similarity is the floor.
        ridges: in units of the layer's mean variance, from which each fold's is chosen.
        between: whether models are compared with the first one, too.
    """

    labels: Sequence[str] | None = None
    layers: Sequence[int] | None = None
    level: Level = "segments"
    limit: int | None = 100_000
    variance: float = 0.99
    folds: int = 10
    permutations: int = 5
    ridges: Sequence[float] = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)
    between: bool = True

    def __post_init__(self) -> None:
        choice("analysis.similarity.level", self.level, ("segments", "frames"))
        whole("analysis.similarity.limit", self.limit, 2, optional="for all")
        number("analysis.similarity.variance", self.variance, above=0, high=1)
        whole("analysis.similarity.folds", self.folds, 2)
        whole("analysis.similarity.permutations", self.permutations, 0)
        if isinstance(self.ridges, str) or not isinstance(self.ridges, Sequence) or not self.ridges:
            raise fail("analysis.similarity.ridges", self.ridges, "a list of numbers, such as [0.0001, 0.01]")
        for value in self.ridges:
            number("analysis.similarity.ridges", value, low=0)
        if self.labels is not None and (isinstance(self.labels, str) or not self.labels):
            raise fail("analysis.similarity.labels", self.labels, "a list of item columns, or null")
        boolean("analysis.similarity.between", self.between)

    def check(self, items: Items, models: Sequence[str]) -> None:
        every = np.arange(len(items))
        points = Points(items, every, None if self.level == "segments" else np.zeros(len(items)), 0, len(items))
        partitions(points, self._columns(items), self.folds, 0, 0)

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        rates = [model.store.frequency for model in models.values()]
        points = Points.draw(speech.items, min(rates), self.level, self.limit, seed, max(rates))
        parts = partitions(points, self._columns(speech.items), self.folds, self.permutations, seed)
        reference = next((name for name, model in models.items() if not model.baseline), None)
        tables = similarities(
            models,
            points,
            parts,
            Settings(self.variance, self.ridges),
            self.layers,
            reference if self.between and len(models) > 1 else None,
        )
        facts = {
            "level": self.level,
            "points": len(points),
            "total": points.total,
            "reference": reference,
            "tasks": {name: list(model.tasks) for name, model in models.items()},
            "baselines": [name for name, model in models.items() if model.baseline],
            "labels": {one.column: _facts(part, one) for part in parts for one in part.labellings},
        }
        dims = max(model.store.identity.dim for model in models.values())
        notes = [*describe(points, self.level), *_notes(parts, len(points), dims, self.variance)]
        return AnalysisResult(facts, tables, notes)

    def _columns(self, items: Items) -> list[str]:
        return check_columns("analysis.similarity.labels", None if self.labels is None else list(self.labels), items)


def describe(points: Points, level: Level) -> list[str]:
    """Say which points were taken."""
    what = "mean frames of items" if level == "segments" else "frames"
    drawn = ", drawn at random" * (len(points) < points.total)
    notes = [f"Points are {len(points):,} of {points.total:,} {what}{drawn}."]
    if points.left_out:
        notes.append(f"{points.left_out:,} items are too short to have a frame in each model.")
    return notes


def _facts(part: Partition, one: Any) -> dict[str, Any]:
    return {
        "classes": one.classes,
        "items": int((one.codes[0] >= 0).sum()),
        "held_out": part.unit,
        "units": part.units,
        "folds": part.number,
        "permuted": one.permuted,
    }


def _notes(parts: Sequence[Partition], points: int, dims: int, variance: float) -> list[str]:
    notes = [
        f"Vectors are centred; SVCCA keeps {100 * variance:g} % of a layer's variance. Held out: variates are fitted "
        "without a fold of units and correlated on it, centred there, with a ridge that a further fold chose (CCA, "
        "PWCCA); intervals are over folds. Floor: the same with permuted labels. Split half: how alike SVCCA's "
        "variates of the two halves of the folds are."
    ]
    for part in parts:
        for one in part.labellings:
            text = f"{one.column}: {part.unit}s are held out ({part.units:,} in {part.number} folds)"
            if part.unit != "speaker":
                text += ", for no two of its values are had by two speakers each"
            text += f"; permuted among {one.permuted}s"
            if one.constant:
                text += f"; centred by the means of the fit, as each {part.unit} has one value"
            if part.number == 2:
                text += "; with two folds the ridge is the middle one, as there is no third to choose it on"
            notes.append(text + ".")
    if points <= dims:
        notes.append(
            f"There are fewer points than the {dims} dimensions: CCA in the sample is then 1 whatever the label."
        )
    return notes
