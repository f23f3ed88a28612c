"""Normalisation: what training takes from layers, and what it adds, against the untrained model.

After Wang, Yang and Yuan (2025): a model that was taught tones should come to say more of tones and less of who speaks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.correlation.label_similarity import Settings, similarities
from w2v_abx.analysis.correlation.labelling import partitions
from w2v_abx.analysis.directions.collapsing import Collapsing, compare_collapsed
from w2v_abx.analysis.directions.directions import orthogonality
from w2v_abx.analysis.points import Points, check_columns
from w2v_abx.analysis.probe import Probe, probe_counts
from w2v_abx.analysis.probing.accuracy import differences
from w2v_abx.analysis.probing.held_out import halves
from w2v_abx.analysis.similarity import Similarity, describe
from w2v_abx.errors import InputError
from w2v_abx.items.items import Items
from w2v_abx.statistics.ratios import jackknife_reach
from w2v_abx.system.checks import choice, fail, whole

__all__ = ["Normalisation"]

BASELINES = ("mfcc", "random")
SPEAKER = "speaker"
KEYS = ["model", "layer", "label", "measure"]


@dataclass(frozen=True)
class Normalisation:
    """Compare similarities to labels and accuracies of probes with those of the first model, layer by layer.

    Beside these: how orthogonal the directions of speakers are to those of phones or tones, and what ABX is with the
    directions of speakers collapsed.

    Attributes:
        labels: item columns; None: the known ones that have two values.
        layers: see `Analysis`.
        limit: items that are drawn where there are more; each is one point, its mean frame.
        folds: that speakers are put in.
        said: the column that says what is said, whose directions are compared with those of speakers.
        collapsed: layers whose ABX is scored with the directions of speakers collapsed: "last", "all" or "none".
        abx: what `w2v_abx.abx.setting.AbxSetting` takes: the task that is scored.
    """

    labels: Sequence[str] | None = None
    layers: Sequence[int] | None = None
    limit: int | None = 20_000
    folds: int = 10
    said: str = "#phone"
    collapsed: str = "last"
    abx: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        whole("analysis.normalisation.limit", self.limit, 2, optional="for all")
        whole("analysis.normalisation.folds", self.folds, 2)
        choice("analysis.normalisation.collapsed", self.collapsed, ("last", "all", "none"))
        if self.labels is not None and (isinstance(self.labels, str) or not self.labels):
            raise fail("analysis.normalisation.labels", self.labels, "a list of item columns, or null")
        AbxSetting(**(self.abx or {}))

    def check(self, items: Items, models: Sequence[str]) -> None:
        trained = [name for name in models if name not in BASELINES]
        if len(trained) < 2:
            raise InputError(
                f"analysis.normalisation compares models with the first of them, and there is only {', '.join(trained)}"
            )
        partitions(Points(items, np.arange(len(items)), None, 0, len(items)), self._columns(items), self.folds, 0, 0)
        if SPEAKER not in items.labels or self.said not in items.labels:
            missing = next(name for name in (SPEAKER, self.said) if name not in items.labels)
            raise InputError(
                f"analysis.normalisation takes the directions of speakers and of {self.said}, and items have no column "
                f"{missing}; they have {', '.join(items.labels)}"
            )
        if self.collapsed != "none":
            halves(items, 0)

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        columns = self._columns(speech.items)
        compared = {name: model for name, model in models.items() if name != "mfcc"}
        rates = [model.store.frequency for model in compared.values()]
        points = Points.draw(speech.items, min(rates), "segments", self.limit, seed, max(rates))
        reference = next(iter(compared))
        tables = {
            "changes": pl.concat(
                [
                    self._similarities(compared, points, columns, reference, seed),
                    self._accuracies(compared, points, columns, reference, seed),
                ]
            ),
            "directions": self._directions(models, points, seed),
        }
        if self.collapsed != "none":
            tables["collapsed"] = self._collapsed(models, speech.items, seed)
        facts = {
            "points": len(points),
            "total": points.total,
            "reference": reference,
            "said": self.said,
            "tasks": {name: list(model.tasks) for name, model in models.items()},
            "baselines": [name for name, model in models.items() if model.baseline],
            "abx": dict(self.abx or {}),
        }
        notes = [
            *describe(points, "segments"),
            f"Differences are against the same layer of {reference}, of the same points and speakers: of SVCCA with a "
            "label, held out, with intervals over folds of speakers; and of the accuracy of linear probes on speakers "
            "that they have not seen, with intervals over speakers. MFCC has no layer to compare.",
        ]
        return AnalysisResult(facts, tables, notes)

    def _columns(self, items: Items) -> list[str]:
        wanted = None if self.labels is None else list(self.labels)
        return check_columns("analysis.normalisation.labels", wanted, items)

    def _similarities(
        self, models: Mapping[str, Model], points: Points, columns: list[str], reference: str, seed: int
    ) -> pl.DataFrame:
        """Differences of SVCCA, held out, paired by fold."""
        parts = partitions(points, columns, self.folds, 0, seed)
        settings = Settings(Similarity.variance, Similarity.ridges)
        found = similarities(models, points, parts, settings, self.layers)
        held = found["labels"].filter(pl.col("measure") == "svcca", pl.col("held_out").is_not_null())
        key = ["layer", "label"]
        before = held.filter(model=reference).select(*key, first="held_out")
        rows = held.filter(pl.col("model") != reference).join(before, key, maintain_order="left")
        folds = found["folds"].filter(measure="svcca")
        paired = folds.join(
            folds.filter(model=reference).select(*key, "fold", first="without"), [*key, "fold"], maintain_order="left"
        ).with_columns(difference=pl.col("without") - pl.col("first"))
        reaches = [
            jackknife_reach(paired.filter(model=model, layer=layer, label=label)["difference"].drop_nulls().to_numpy())
            for model, layer, label in rows.select("model", *key).iter_rows()
        ]
        return (
            rows.select(*KEYS[:3], pl.lit("similarity").alias("measure"), "first", second="held_out")
            .with_columns(difference=pl.col("second") - pl.col("first"))
            .with_columns(
                low=pl.col("difference") - pl.Series(reaches, dtype=pl.Float64),
                high=pl.col("difference") + pl.Series(reaches, dtype=pl.Float64),
            )
        )

    def _accuracies(
        self, models: Mapping[str, Model], points: Points, columns: list[str], reference: str, seed: int
    ) -> pl.DataFrame:
        """Differences of the accuracies of probes, paired by speaker."""
        counts, _ = probe_counts(models, points, columns, seed=seed, layers=self.layers, folds=Probe.folds)
        first = counts.filter(model=reference)
        tables = [
            differences(first, counts.filter(model=name)).with_columns(model=pl.lit(name), measure=pl.lit("accuracy"))
            for name in models
            if name != reference
        ]
        return pl.concat(tables).select(*KEYS, "first", "second", "difference", "low", "high")

    def _directions(self, models: Mapping[str, Model], points: Points, seed: int) -> pl.DataFrame:
        """How orthogonal the directions of speakers and of what is said are."""
        speaker, said = points.classes(SPEAKER), points.classes(self.said)
        both = np.flatnonzero((speaker.codes >= 0) & (said.codes >= 0))
        codes = [np.unique(one.codes[both], return_inverse=True)[1] for one in (speaker, said)]
        rows = []
        for name, model in models.items():
            for layer in model.layers(self.layers):
                found = orthogonality(points.vectors(model.store, layer)[both], *codes, seed=seed)
                if found is not None:
                    rows.append({"model": name, "layer": layer, "label": self.said, **asdict(found)})
        return pl.DataFrame(rows)

    def _collapsed(self, models: Mapping[str, Model], items: Items, seed: int) -> pl.DataFrame:
        """ABX error with nothing, the directions of speakers, and as many others collapsed."""
        setting = AbxSetting(**{"seed": seed, **(self.abx or {})})
        scored: dict[float, Collapsing] = {}
        rows = []
        for name, model in models.items():
            rate = model.store.frequency
            if rate not in scored:
                scored[rate] = Collapsing(items, setting, rate, label=self.said, seed=seed)
            layers = model.layers(self.layers)
            for layer in layers if self.collapsed == "all" else layers[-1:]:
                cells = scored[rate](model.store, layer)
                for condition in cells["condition"].unique(maintain_order=True):
                    own = cells.filter(condition=condition)
                    number_ = own.filter(collapsed="speakers")["directions"].mean()
                    of = {"model": name, "layer": layer, "condition": condition, "directions": number_}
                    for collapsed in ("speakers", "control"):
                        found = compare_collapsed(own, "nothing", collapsed, seed)
                        ends = {"low": found.ci_low, "high": found.ci_high, "p": found.p}
                        errors = {"first": found.error_before, "second": found.error_after}
                        rows.append({**of, "collapsed": collapsed, **errors, "difference": found.difference, **ends})
        return pl.DataFrame(rows)
