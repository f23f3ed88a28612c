"""Linear probes of each layer: how well a label can be read from it on speakers that the probe has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.points import Level, Points, check_columns
from w2v_abx.analysis.probing.accuracy import accuracies, count, differences
from w2v_abx.analysis.probing.discriminant import predict
from w2v_abx.analysis.probing.held_out import HeldOut, control_codes, held_unit, hold_out
from w2v_abx.errors import InputError
from w2v_abx.items.items import Items
from w2v_abx.system.checks import choice, fail, number, whole
from w2v_abx.system.progress import tracked

__all__ = ["CONTROL", "LABEL", "Probe", "probe_counts"]

TYPES = ("prev-phone", "#phone", "next-phone", "syllable")  # what is said, whoever says it; else the word
LABEL, CONTROL = "label", "control"  # tasks: the label itself, or a random class for each type


@dataclass(frozen=True)
class Probe:
    """Train linear probes of labels on each layer of each model, and test them on held-out speakers.

    See `w2v_abx.analysis.probing.discriminant.predict` for the probe, and `hold_out` for what is held out.

    Attributes:
        labels: item columns; None: the known ones that have two values.
        layers: see `Analysis`.
        level: what is classified: "segments" or "frames".
        limit: points that are drawn where there are more; None: all are taken.
        folds: of speakers.
        shrinkages: of the covariance within classes, from which each fold's is chosen.
        types: item columns that together say what is said, which the control task is about; None: `TYPES`, or the word.
    """

    labels: Sequence[str] | None = None
    layers: Sequence[int] | None = None
    level: Level = "segments"
    limit: int | None = 20_000
    folds: int = 5
    shrinkages: Sequence[float] = (0.0001, 0.001, 0.01, 0.1, 1.0)
    types: Sequence[str] | None = None

    def __post_init__(self) -> None:
        choice("analysis.probe.level", self.level, ("segments", "frames"))
        whole("analysis.probe.limit", self.limit, 2, optional="for all")
        whole("analysis.probe.folds", self.folds, 2)
        if isinstance(self.shrinkages, str) or not isinstance(self.shrinkages, Sequence) or not self.shrinkages:
            raise fail("analysis.probe.shrinkages", self.shrinkages, "a list of numbers, such as [0.01, 0.1]")
        for value in self.shrinkages:
            number("analysis.probe.shrinkages", value, above=0, high=1)
        for key in ("labels", "types"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, str) or not value):
                raise fail(f"analysis.probe.{key}", value, "a list of item columns, or null")

    def check(self, items: Items, models: Sequence[str]) -> None:
        every = np.arange(len(items))
        points = Points(items, every, None if self.level == "segments" else np.zeros(len(items)), 0, len(items))
        for column in self._columns(items):
            held_unit(points, column)
        for name in self.types or ():
            if name not in items.labels:
                raise InputError(
                    f"analysis.probe.types={name}: items have no such column; they have {', '.join(items.labels)}"
                )

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        rates = [model.store.frequency for model in models.values()]
        points = Points.draw(speech.items, min(rates), self.level, self.limit, seed, max(rates))
        counts, held = probe_counts(
            models,
            points,
            self._columns(speech.items),
            seed=seed,
            layers=self.layers,
            folds=self.folds,
            shrinkages=self.shrinkages,
            types=self._types(speech.items),
        )
        facts = {
            "level": self.level,
            "points": len(points),
            "total": points.total,
            "labels": {name: _facts(one) for name, one in held.items()},
        }
        return AnalysisResult(facts, {"scores": _scores(counts), "counts": counts}, self._notes(points, held))

    def _columns(self, items: Items) -> list[str]:
        wanted = None if self.labels is None else list(self.labels)
        return check_columns("analysis.probe.labels", wanted, items)

    def _types(self, items: Items) -> list[str]:
        if self.types is not None:
            return list(self.types)
        return [name for name in TYPES if name in items.labels] or [name for name in ["word"] if name in items.labels]

    def _notes(self, points: Points, held: Mapping[str, HeldOut]) -> list[str]:
        what = "mean frames of items" if self.level == "segments" else "frames"
        drawn = ", drawn at random" * (len(points) < points.total)
        notes = [f"{len(points):,} of {points.total:,} {what} are classified{drawn}."]
        if points.left_out:
            notes.append(f"{points.left_out:,} items are too short to have a frame in each model.")
        for name, one in held.items():
            parts = int(one.folds.max()) + 1
            text = f"{name}: probes are tested on {one.unit}s that they have not seen ({one.units:,} in {parts} parts)"
            if one.unit != "speaker":
                text += ", for no two of its values are known of two speakers each"
            if one.left_out:
                text += f"; {one.left_out:,} points of values that only one {one.unit} has are left out"
            if parts == 2:
                text += "; with two parts the shrinkage is the middle one, as there is no third to choose it on"
            notes.append(text + ".")
        return notes


def probe_counts(
    models: Mapping[str, Model],
    points: Points,
    labels: Sequence[str],
    *,
    seed: int,
    layers: Sequence[int] | None = None,
    folds: int = 5,
    shrinkages: Sequence[float] = Probe.shrinkages,
    types: Sequence[str] = (),
) -> tuple[pl.DataFrame, dict[str, HeldOut]]:
    """Count what probes of labels get right at each layer of each model, by speaker.

    Args:
        models, layers: see `Analysis`.
        points: that are classified.
        labels, folds, shrinkages: see `Probe`.
        seed: of the folds and the control tasks.
        types: item columns, a random class for whose values is classified, too; empty: no such control task.

    Returns:
        Counts for `w2v_abx.analysis.probing.accuracy`: ``model``, ``layer``, ``label``, ``task`` (`LABEL` or
        `CONTROL`), ``speaker``, ``class``, ``total``, ``right``; and what was held out for each label.

    Raises:
        InputError: a label cannot be tested on units that are held out.
    """
    held = {label: hold_out(points, label, folds, seed) for label in labels}
    tasks = {label: {LABEL: one.codes} for label, one in held.items()}
    for label in labels:
        if types and list(types) != [label]:
            tasks[label][CONTROL] = control_codes(points, held[label], list(types), seed)
    tables = []
    every = [(name, layer) for name, model in models.items() for layer in model.layers(layers)]
    for name, layer in tracked("probes, layers", every):
        vectors = points.vectors(models[name].store, layer)
        for label, one in held.items():
            predicted = predict(vectors[one.rows], list(tasks[label].values()), one.folds, shrinkages)
            for (task, codes), guess in zip(tasks[label].items(), predicted, strict=True):
                of = {"model": name, "layer": layer, "label": label, "task": task}
                counted = count(one.names, np.array(one.classes)[codes], codes == guess)
                tables.append(counted.select(*(pl.lit(v).alias(k) for k, v in of.items()), pl.all()))
    return pl.concat(tables).with_columns(pl.col("layer").cast(pl.Int64)), held


def _scores(counts: pl.DataFrame) -> pl.DataFrame:
    """Put accuracies beside those of the control tasks, and selectivity: how much higher the former are."""
    table = accuracies(counts)
    keys = ["model", "layer", "label"]
    real, control = (table.filter(pl.col("task") == task).drop("task") for task in (LABEL, CONTROL))
    control = control.select(*keys, pl.col("^accuracy.*$").name.replace("accuracy", "control"))
    selective = [
        differences(*(part.filter(pl.col("task") == task) for task in (CONTROL, LABEL)))
        .select("layer", "label", pl.col("difference", "low", "high").name.prefix("selectivity_"))
        .with_columns(model=pl.lit(name))
        for (name,), part in counts.group_by("model", maintain_order=True)
    ]
    selectivity = pl.concat(selective).rename({"selectivity_difference": "selectivity"})
    return real.join(control, keys, "left", maintain_order="left").join(
        selectivity, keys, "left", maintain_order="left"
    )


def _facts(held: HeldOut) -> dict[str, Any]:
    return {
        "held_out": held.unit,
        "units": held.units,
        "folds": int(held.folds.max()) + 1,
        "points": len(held.rows),
        "classes": held.classes,
        "chance": float(np.bincount(held.codes).max() / len(held.codes)),
        "over": len(set(held.names.tolist())),
    }
