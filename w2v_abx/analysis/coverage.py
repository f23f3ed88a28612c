"""What recognition of each symbol owes to its training counts, and what to the clusters of the model before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.clustering.contingency import contingency
from w2v_abx.analysis.clustering.frames import WholeFiles, predictions
from w2v_abx.analysis.clustering.kmeans import METHODS, group
from w2v_abx.analysis.clustering.latents import Latents
from w2v_abx.analysis.points import Classes
from w2v_abx.analysis.symbols.observations import INTERVAL, Observations, equivalence
from w2v_abx.analysis.symbols.symbols import MEASURES, Recalls, recogniser
from w2v_abx.errors import InputError
from w2v_abx.heads.confusions import shown
from w2v_abx.items.items import FILE, Items
from w2v_abx.system import checks

__all__ = ["BEFORE", "Coverage"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BEFORE = "before"  # the model whose clusters are asked about
DECISIVE = MEASURES[0]


@dataclass(frozen=True)
class Coverage:
    """Explain the recall of each symbol by its count in training and its concentration in clusters.

    Grósz et al. (2023) say that the clusters of the pretrained model weigh as much as the training data; how that was
    shown is not known. Here an observation is a symbol in a run, and the outcome its recall in held-out clips. The
    factors are the logarithm of its count in the transcripts of training, and how concentrated its frames lie in the
    clusters of a model that was not fine-tuned (see `w2v_abx.analysis.symbols.symbols.measure`). All three are taken as
    differences from the run's mean: runs are a level.

    Args:
        layers: see `Analysis`; the answer is about the last one.
        column: the item column that says where symbols lie in time; None: the frames at which a recogniser itself says
            them, as published, of which a symbol that it seldom says has few.
        head: the CTC head; None: the one that there is.
        k, method: clusters, and how they are found ("kmeans" or "spherical").
        seeds: clusterings, over which concentration is averaged.
        frames: that are clustered, of whole files; None: all.
        least: occurrences in held-out clips, and frames, that a symbol needs.
        draws: of the bootstrap.
        margin: the weights are alike where the 90 % interval of their difference lies within plus or minus this.

    Raises:
        InputError: values out of range.
    """

    layers: Sequence[int] | None = None
    column: str | None = "#phone"
    head: str | None = None
    k: int = 36
    method: str = "kmeans"
    seeds: int = 3
    frames: int | None = 200_000
    least: int = 10
    draws: int = 1000
    margin: float = 0.2

    def __post_init__(self) -> None:
        checks.choice("analysis.coverage.method", self.method, METHODS)
        for key, low in (("k", 2), ("seeds", 1), ("least", 1), ("draws", 100)):
            checks.whole(f"analysis.coverage.{key}", getattr(self, key), low)
        checks.whole("analysis.coverage.frames", self.frames, self.k, optional="for all")
        checks.number("analysis.coverage.margin", self.margin, above=0)

    def check(self, items: Items, models: Sequence[str]) -> None:
        """Raise InputError where items lack the column, or the untrained model is not there."""
        if self.column is not None and self.column not in items.labels:
            raise InputError(
                f"analysis.coverage.column={self.column}: items have no such column; they have "
                f"{', '.join(items.labels)}; null: the frames at which the recogniser says a symbol"
            )
        if BEFORE not in models:
            raise InputError(
                f"analysis.coverage needs the model that all runs began with, {BEFORE!r}, and there are "
                f"{', '.join(models)}: give runs of w2v-abx train that began with the same one"
            )

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        recalls = Recalls.of(list(models.values()), self.head)
        files = WholeFiles.draw(speech.items, [model.store for model in models.values()], self.frames, seed)
        codes = self._codes([models[run] for run in recalls.runs], files, recalls.symbols)
        sizes = [np.bincount(found[found >= 0], minlength=len(recalls.symbols)) for found in codes]
        speakers = _speakers(files)
        seen = Observations.of(recalls, np.stack(sizes), speakers.names, self.least, self.draws, seed)
        codes = [_renumbered(found, recalls.symbols, seen.recalls.symbols) for found in codes]

        rows: list[dict[str, Any]] = []
        for model in models.values():
            if model.name in recalls.runs:
                continue
            for layer in model.layers(self.layers):
                tables = self._tables(model, layer, files, codes, speakers, len(seen.recalls.symbols), seed)
                if model.name == BEFORE:
                    decisive = layer, tables
                rows += [
                    {"model": model.name, "layer": layer, "measure": measure, **row}
                    for measure in MEASURES
                    for row in _rows(seen, measure, tables)
                ]
        layer, tables = decisive
        differences = seen.explain(DECISIVE, tables)["difference"][0]
        if not np.isfinite(differences[0]):
            raise InputError(
                f"analysis.coverage: recall, or concentration in the clusters of layer {layer}, is the same for all "
                f"{len(seen.recalls.symbols)} symbols, or goes wholly with counts: there is nothing to explain"
            )
        facts = {
            "layer": layer,
            "measure": DECISIVE,
            "runs": list(recalls.runs),
            "symbols": len(seen.recalls.symbols),
            "equivalence": equivalence(differences, self.margin, len(seen.recalls.symbols)),
            "within_symbols": seen.within_symbols(),
        }
        found = {
            "coverage": pl.DataFrame(rows),
            "symbols": _observed(seen, tables),
            "runs": pl.DataFrame(
                [{"run": run, **seen.of_run(n, DECISIVE, tables)} for n, run in enumerate(recalls.runs)]
            ),
        }
        return AnalysisResult(facts, found, self._notes(seen, files, speakers))

    def _codes(self, recognisers: Sequence[Model], files: WholeFiles, symbols: Sequence[str]) -> list[Integers]:
        """Number the symbols of frames, −1 for none: as items have them, or as each recogniser says."""
        if self.column is not None:
            labels = [files.label(self.column)]
        else:
            wanted = {f"{model.name}: {recogniser(model, self.head)}" for model in recognisers}
            labels = [label for label in predictions(recognisers, files, {}) if label.name in wanted]
        names = [[shown(name) for name in label.classes.names] for label in labels]
        if not {*symbols}.intersection(*names):
            raise InputError(
                f"analysis.coverage.column={self.column}: none of the symbols of the recogniser, "
                f"{', '.join(symbols[:8])} …, is among {', '.join(names[0][:8])} …; name the column that has them, or "
                "null for the frames at which it says them"
            )
        return [_renumbered(label.codes(blanks=False), own, symbols) for label, own in zip(labels, names, strict=True)]

    def _tables(
        self,
        model: Model,
        layer: int,
        files: WholeFiles,
        codes: Sequence[Integers],
        speakers: Classes,
        symbols: int,
        seed: int,
    ) -> list[Floats]:
        """Count frames by speaker, labelling, symbol and cluster, (T, P, U, C), for each clustering."""
        rows = files.points.rows(model.store)
        latents = Latents(f"{model.name}, layer {layer}", model.store.layer(layer).array, rows)
        found = []
        for start in range(self.seeds):
            clusters = group(latents, self.k, self.method, seed + start, "analysis.coverage.k").codes
            counts = [
                contingency(np.where(own < 0, -1, speakers.codes * symbols + own), clusters, (size, self.k)).reshape(
                    len(speakers.names), symbols, self.k
                )
                for own in codes
                for size in [len(speakers.names) * symbols]
            ]
            found.append(np.stack(counts, axis=1).astype(np.float64))
        return found

    def _notes(self, seen: Observations, files: WholeFiles, speakers: Classes) -> list[str]:
        """Say what was taken, and how."""
        where = f"the items' column {self.column}" if self.column else "the frames at which a recogniser says them"
        runs, symbols = len(seen.recalls.runs), len(seen.recalls.symbols)
        notes = [
            f"{symbols} symbols in {runs} run{'s' * (runs > 1)}. Recall is of {len(seen.recalls.speakers)} speakers of "
            f"held-out clips; where symbols lie in time is of {where}, of {len(speakers.names)} speakers.",
            f"{self.k} clusters by {self.method} of {len(files):,} frames, {len(files.files)} of {files.total} files; "
            f"concentration is the mean over {self.seeds} clusterings, which the bootstrap does not make anew.",
            "Recall, the logarithm of counts and concentration are taken as differences from the run's mean, and "
            f"standardised. With {symbols} symbols, two factors that mean nothing have an R² of about "
            f"{2 / (symbols - 1):.2f} in a single run.",
            f"Intervals are of 95 %: over speakers{', runs' * (runs > 1)} and symbols, drawn together ({self.draws} "
            f"draws), and over speakers alone, for these symbols{' and runs' * (runs > 1)}. Those of R² and of what is "
            "unique cannot fall below zero, and do not tell whether there is any.",
        ]
        notes += [f"Left out, {why}: {' '.join(symbols)}." for why, symbols in seen.left_out.items()]
        return notes


def _speakers(files: WholeFiles) -> Classes:
    """Number the speaker of each frame: by the items' column, or else the file."""
    column = "speaker" if "speaker" in files.items.labels else FILE
    who = dict(zip(files.items.frame[FILE].to_list(), files.items.frame[column].to_list(), strict=True))
    names, codes = np.unique([who[name] for name in files.files], return_inverse=True)
    return Classes(names.tolist(), codes[files.points.item])


def _renumbered(codes: Integers, names: Sequence[str], wanted: Sequence[str]) -> Integers:
    """Number classes by their places in other names, −1 where these do not have them."""
    place = {name: number for number, name in enumerate(wanted)}
    return np.array([*(place.get(name, -1) for name in names), -1])[codes]


def _rows(seen: Observations, measure: str, tables: Sequence[Floats]) -> Iterator[dict[str, Any]]:
    """Tabulate the statistics with their intervals, and the correlations of ranks without."""
    for name, (crossed, speakers) in seen.explain(measure, tables).items():
        bounds = [_interval(values) for values in (crossed, speakers)]
        names = (("low", "high"), ("low_speakers", "high_speakers"))
        intervals = {
            key: x for keys, found in zip(names, bounds, strict=True) for key, x in zip(keys, found, strict=True)
        }
        yield {"statistic": name, "value": float(crossed[0]), **intervals}
    ranked = seen.ranked(measure, tables)
    for name, value in (("rho_count", ranked.r_first), ("rho_concentration", ranked.r_second)):
        yield {"statistic": name, "value": float(value)}


def _interval(values: Floats) -> tuple[float, float]:
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(drawn, INTERVAL) if len(drawn) and np.ptp(drawn) > 0 else (np.nan, np.nan)
    return float(low), float(high)


def _observed(seen: Observations, tables: Sequence[Floats]) -> pl.DataFrame:
    """Tabulate the observations."""
    recalls, recall = seen.recalls, seen.recall[0][0]
    places = np.broadcast_to(seen.crossed.concentration(DECISIVE, tables)[0], recall.shape)
    frames = np.broadcast_to(tables[0].sum((0, 3)), recall.shape)
    return pl.DataFrame(
        [
            {
                "run": name,
                "symbol": symbol,
                "recall": float(recall[run, n]),
                "held_out": int(recalls.asked[run, :, n].sum()),
                "trained": int(recalls.trained[run, n]),
                "concentration": float(places[run, n]),
                "frames": int(frames[run, n]),
            }
            for run, name in enumerate(recalls.runs)
            for n, symbol in enumerate(recalls.symbols)
            if seen.there[run, n]
        ]
    )
