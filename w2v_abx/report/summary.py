"""What a run's folder holds, read once for the terminal and the page."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from w2v_abx.errors import InputError
from w2v_abx.statistics.intervals import Estimate, estimate
from w2v_abx.statistics.paired import Comparison, compare_all
from w2v_abx.statistics.verdict import primary_comparison, verdict
from w2v_abx.system.atomic import write_json

__all__ = ["CONDITIONS", "NAMES", "ORDER", "Model", "Summary", "summarize"]

NAMES = {"before": "baseline", "after": "fine-tuned", "mfcc": "MFCC", "random": "random"}
ORDER = ("mfcc", "random", "before", "after")
CONDITIONS = {"across": "across speakers", "within": "within speaker"}


@dataclass(frozen=True)
class Model:
    """One ``abx/<tag>`` folder: its cells, its summary's rows, and an error with interval, by (layer, condition)."""

    tag: str
    on: str
    distance: str
    frequency: float
    cells: pl.DataFrame
    scores: Mapping[tuple[int, str], Mapping[str, Any]]
    errors: Mapping[tuple[int, str], Estimate]

    @property
    def name(self) -> str:
        return NAMES.get(self.tag, self.tag)

    @property
    def speaker(self) -> str | None:
        return "speaker" if "speaker" in self.cells.columns else None

    def select(self, layer: int, condition: str) -> pl.DataFrame:
        """The cells of one layer and condition."""
        return self.cells.filter(layer=layer, condition=condition)


@dataclass(frozen=True)
class Summary:
    """A run, as far as its folder tells; ``missing`` says in a sentence why a part is not there."""

    folder: Path
    models: Mapping[str, Model]
    comparisons: list[Comparison]
    primary: Comparison | None
    verdict: str
    heads: Mapping[str, Mapping[str, Any]]
    metrics: pl.DataFrame
    thermal: pl.DataFrame
    config: str
    facts: Mapping[str, Any]
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def conditions(self) -> list[str]:
        """Across speakers first: the verdict's."""
        found = {condition for model in self.models.values() for _, condition in model.scores}
        return sorted(found, key=lambda c: (list(CONDITIONS).index(c) if c in CONDITIONS else len(CONDITIONS), c))

    def layers(self, condition: str) -> list[int]:
        """The layers that any model but MFCC was scored at."""
        models = [model for model in self.models.values() if model.tag != "mfcc"] or list(self.models.values())
        return sorted({layer for model in models for layer, c in model.scores if c == condition})

    def score(self, tag: str, layer: int, condition: str) -> Mapping[str, Any] | None:
        """A model's row of `summary.json`; MFCC has a single layer, which stands beside each."""
        model = self.models.get(tag)
        return model.scores.get((0 if tag == "mfcc" else layer, condition)) if model else None

    def comparison(self, layer: int, condition: str) -> Comparison | None:
        return next((c for c in self.comparisons if (c.layer, c.condition) == (layer, condition)), None)


def summarize(folder: Path | str, *, primary_layer: int | None = None) -> Summary:
    """Read a run's folder, compare ``abx/before`` with ``abx/after``, and write ``comparisons.json`` into it.

    Args:
        folder: see the README; every part but the folder itself may be missing.
        primary_layer: the layer that the verdict is about; by default ``primary_layer`` of the run's configuration, or
            where the baseline is best.

    Raises:
        InputError: there is no such folder, a file in it cannot be read, the two models were not scored on the same
            cells, or ``primary_layer`` was not scored.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a run's folder; give one that w2v-abx train made, outputs/<name>/<time>")
    missing: dict[str, str] = {}
    text, config = _config(folder / "config.yaml", missing)
    heads = _json(folder / "head.json", missing, "No head was measured")
    metrics = _table(folder / "metrics.csv", missing, "The loss was not logged")
    thermal = _table(folder / "thermal.csv", missing, "Temperature was not watched")
    facts = _json(folder / "run.json", missing, "Versions and hardware were not recorded")
    seed = config["seed"] if isinstance(config.get("seed"), int) else 0
    models = {m.tag: m for path in sorted(folder.glob("abx/*/summary.json")) if (m := _model(path, seed))}
    models = {tag: models[tag] for tag in sorted(models, key=lambda t: (ORDER.index(t) if t in ORDER else 9, t))}
    comparisons, primary, sentence = _compare(models, config, seed, primary_layer, missing)
    summary = Summary(
        folder=folder,
        models=models,
        comparisons=comparisons,
        primary=primary,
        verdict=sentence,
        heads=heads,
        metrics=metrics,
        thermal=thermal,
        config=text,
        facts=facts,
        missing=missing,
    )
    if primary:
        decides = {"layer": primary.layer, "condition": primary.condition}
        listed = [c.to_dict() for c in comparisons]
        write_json(
            folder / "comparisons.json", {"verdict": sentence, "primary": decides, "seed": seed, "comparisons": listed}
        )
    return summary


def _compare(
    models: Mapping[str, Model], config: Mapping[str, Any], seed: int, layer: int | None, missing: dict[str, str]
) -> tuple[list[Comparison], Comparison | None, str]:
    absent = [f"abx/{tag}" for tag in ("before", "after") if tag not in models]
    if absent:
        missing["abx"] = f"Nothing was compared: this run has no {' and no '.join(absent)}."
        return [], None, missing["abx"]
    before, after = models["before"], models["after"]
    comparisons = compare_all(before.cells, after.cells, on=before.on, speaker=before.speaker, seed=seed)
    layer = config.get("primary_layer") if layer is None else layer
    chosen = comparisons if layer is None else [c for c in comparisons if c.layer == layer]
    if not chosen:
        scored = ", ".join(str(x) for x in sorted({c.layer for c in comparisons if c.layer is not None}))
        raise InputError(f"primary_layer={layer} was not scored; this run has the layers {scored}")
    primary = primary_comparison(chosen)
    corpus = config.get("corpus")
    name = corpus.get("name") if isinstance(corpus, dict) else None
    return comparisons, primary, verdict(comparisons, primary, training=name)


def _model(path: Path, seed: int) -> Model:
    """One model's folder; raises InputError naming the file that is not as it should be."""
    told = _json(path, {}, "")
    try:
        rows = {(row["layer"], row["condition"]): row for row in told["scores"]}
        on, distance, frequency = told["on"], told["distance"], float(told["frequency"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not an ABX summary ({error} is missing); run w2v-abx abx again") from None
    table = path.with_name("cells.parquet")
    try:
        cells = pl.read_parquet(table, glob=False)  # a folder may be named [x]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{table} cannot be read ({error}); run w2v-abx abx again") from None
    speaker = "speaker" if "speaker" in cells.columns else None
    errors = {
        (layer, condition): estimate(part, on=on, speaker=speaker, seed=seed)
        for (layer, condition), part in cells.partition_by("layer", "condition", as_dict=True).items()
    }
    if set(errors) != set(rows):
        raise InputError(f"{table} holds other layers and conditions than {path.name}; run w2v-abx abx again")
    return Model(path.parent.name, on, distance, frequency, cells, rows, errors)


def _config(path: Path, missing: dict[str, str]) -> tuple[str, dict[str, Any]]:
    if not path.is_file():
        missing["config"] = "The configuration was not recorded: there is no config.yaml in this folder."
        return "", {}
    text = path.read_text(encoding="utf-8")
    try:
        config = OmegaConf.to_container(OmegaConf.create(text))
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return text, {str(k): v for k, v in config.items()} if isinstance(config, dict) else {}


def _json(path: Path, missing: dict[str, str], why: str) -> dict[str, Any]:
    if not path.is_file():
        missing[path.name] = f"{why}: there is no {path.name} in this folder."
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, not an object")
    if not value:
        missing[path.name] = f"{why}: {path.name} is empty."
    return value


def _table(path: Path, missing: dict[str, str], why: str) -> pl.DataFrame:
    """A CSV log; the half row that a killed run leaves at the end is left out."""
    if not path.is_file():
        missing[path.name] = f"{why}: there is no {path.name} in this folder."
        return pl.DataFrame()
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = [{name: row[name] for name in reader.fieldnames or ()} for row in reader]
    if rows and None in rows[-1].values():
        rows.pop()
    if not rows:
        missing[path.name] = f"{why}: {path.name} has no rows."
        return pl.DataFrame()
    return pl.DataFrame(rows, infer_schema_length=None)
