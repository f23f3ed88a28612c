"""Read a run's ABX scores and records once, and compare the models before and after training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

__all__ = ["NAMES", "Model", "Summary", "in_words", "read_json", "read_log", "summarize"]

NAMES = {"mfcc": "MFCC", "random": "random", "before": "baseline", "after": "fine-tuned"}  # in the order of tables
CONDITIONS = {"across": "across speakers", "within": "within speaker"}


def in_words(condition: str | None) -> str:
    """Name a condition in a title or a sentence."""
    return CONDITIONS.get(condition or "", condition or "")


@dataclass(frozen=True)
class Model:
    """One ``abx/<tag>`` folder: its cells, its summary's rows, and an error with interval, by (layer, condition)."""

    tag: str
    on: str
    speaker: str | None  # the column of speakers, if there is one
    distance: str
    cells: pl.DataFrame
    scores: Mapping[tuple[int, str], Mapping[str, Any]]
    errors: Mapping[tuple[int, str], Estimate]

    @property
    def name(self) -> str:
        return NAMES.get(self.tag, self.tag)

    def select(self, layer: int, condition: str) -> pl.DataFrame:
        """The cells of one layer and condition."""
        return self.cells.filter(layer=layer, condition=condition)


@dataclass(frozen=True)
class Summary:
    """A run's folder, with what more than one section is made of.

    Attributes:
        config, facts: what ``config.yaml`` and ``run.json`` hold; empty where they are not there.
        models: by tag, in the order of tables.
        comparisons: of ``before`` and ``after``, at each layer and condition; empty unless both were scored.
        primary: the one of them that decides the verdict.
        verdict: a sentence; where nothing was compared, it says why.
    """

    folder: Path
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    models: Mapping[str, Model]
    comparisons: Sequence[Comparison]
    primary: Comparison | None
    verdict: str

    @property
    def decisive(self) -> tuple[int, str] | None:
        """Layer and condition of the verdict."""
        return (self.primary.layer or 0, self.primary.condition or "") if self.primary else None

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
        return self.models[tag].scores.get((0 if tag == "mfcc" else layer, condition))


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
    config = _config(folder / "config.yaml")
    seed = config["seed"] if isinstance(config.get("seed"), int) else 0
    found = {path.parent.name: _model(path, seed) for path in folder.glob("abx/*/summary.json")}
    models = {tag: found[tag] for tag in sorted(found, key=lambda t: (list(NAMES).index(t) if t in NAMES else 9, t))}
    layer = config.get("primary_layer") if primary_layer is None else primary_layer
    comparisons, primary, sentence = _compare(models, config, seed, layer)
    if primary:
        decides = {"layer": primary.layer, "condition": primary.condition}
        listed = [comparison.to_dict() for comparison in comparisons]
        written = {"verdict": sentence, "primary": decides, "seed": seed, "comparisons": listed}
        write_json(folder / "comparisons.json", written)
    return Summary(folder, config, read_json(folder / "run.json"), models, comparisons, primary, sentence)


def _compare(
    models: Mapping[str, Model], config: Mapping[str, Any], seed: int, layer: int | None
) -> tuple[list[Comparison], Comparison | None, str]:
    absent = [f"abx/{tag}" for tag in ("before", "after") if tag not in models]
    if absent:
        return [], None, f"Nothing was compared: this run has no {' and no '.join(absent)}."
    before, after = models["before"], models["after"]
    comparisons = compare_all(before.cells, after.cells, on=before.on, speaker=before.speaker, seed=seed)
    chosen = comparisons if layer is None else [c for c in comparisons if c.layer == layer]
    if not chosen:
        scored = ", ".join(str(x) for x in sorted({c.layer for c in comparisons if c.layer is not None}))
        raise InputError(f"primary_layer={layer} was not scored; this run has the layers {scored}")
    primary = primary_comparison(chosen)
    corpus = config.get("corpus")
    name = corpus.get("name") if isinstance(corpus, dict) else None
    return comparisons, primary, verdict(comparisons, primary, training=name)


def _model(path: Path, seed: int) -> Model:
    """Read one model's folder; raises InputError naming the file that is not as it should be."""
    summary = read_json(path)
    try:
        rows = {(row["layer"], row["condition"]): row for row in summary["scores"]}
        on, distance = summary["on"], summary["distance"]
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
    return Model(path.parent.name, on, speaker, distance, cells, rows, errors)


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, YAMLError, OSError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """Read an object; an empty one where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, not an object")
    return value


def read_log(path: Path) -> pl.DataFrame:
    """Read a CSV log as text; without the half row that a killed run leaves at its end, empty where there is none."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    rows = text[: text.rfind("\n") + 1].encode()
    return pl.read_csv(rows, infer_schema=False, truncate_ragged_lines=True) if rows.strip() else pl.DataFrame()
