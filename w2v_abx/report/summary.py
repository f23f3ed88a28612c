"""Read a run's ABX scores and records once, and compare the models before and after training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from w2v_abx.errors import InputError
from w2v_abx.statistics.cells import Floats
from w2v_abx.statistics.intervals import Estimate, estimate
from w2v_abx.statistics.paired import Comparison, compare_all, correct
from w2v_abx.statistics.verdict import in_words, noun, primary_comparison, verdict
from w2v_abx.system.atomic import write_json

__all__ = ["Model", "Summary", "few", "read_json", "read_log", "read_numbers", "summarize"]

NAMES = {"mfcc": "MFCC", "random": "random", "before": "baseline", "after": "fine-tuned"}  # in the order of tables
FEW = {"triplet": 1000, "pair": 10, "speaker": 3}  # of fewer, an error says little by itself


@dataclass(frozen=True)
class Model:
    """One ``abx/<tag>`` folder: its cells, its summary's rows, and an error with interval, by (layer, condition)."""

    tag: str
    name: str  # in tables and sentences
    distance: str
    slicing: str
    on: str  # the label told apart, by the main task
    averaging: Mapping[str, Mapping[str, Any]]  # of each condition, as `estimate` takes it
    cells: pl.DataFrame
    scores: Mapping[tuple[int, str], Mapping[str, Any]]
    errors: Mapping[tuple[int, str], Estimate]

    @property
    def conditions(self) -> list[str]:
        """Of the main task first, then those within context, and across speakers: the verdict's."""
        found = {condition for _, condition in self.scores}
        return sorted(found, key=lambda c: (c not in self.main, c.endswith("any"), c))

    @property
    def main(self) -> set[str]:
        """The conditions of the main task."""
        return {condition for (_, condition), row in self.scores.items() if row.get("main", True)}

    def select(self, layer: int, condition: str) -> pl.DataFrame:
        """The cells of one layer and condition."""
        return self.cells.filter(layer=layer, condition=condition)


@dataclass(frozen=True)
class Summary:
    """A run's folder, with what more than one section is made of.

    Attributes:
        config, facts: what ``config.yaml`` and ``run.json`` hold; empty where they are not there.
        command: whose run it is: "train", "analyze", "compare" or "abx".
        models: by tag, in the order of tables.
        comparisons: of ``before`` and ``after``, at each layer and condition; empty unless both were scored.
        primary: the one of them that decides the verdict.
        verdict: the answer in plain sentences; where nothing was compared, it says why, or what was measured.
    """

    folder: Path
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    command: str
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
        """Those of all models, in the order of each."""
        return list(dict.fromkeys(condition for model in self.models.values() for condition in model.conditions))

    def layers(self, condition: str) -> list[int]:
        """The layers that any model but MFCC was scored at."""
        models = [model for model in self.models.values() if model.tag != "mfcc"] or list(self.models.values())
        return sorted({layer for model in models for layer, c in model.scores if c == condition})

    def error(self, tag: str, layer: int, condition: str) -> Estimate | None:
        """A model's error; MFCC has a single layer, which stands beside each."""
        return self.models[tag].errors.get((0 if tag == "mfcc" else layer, condition))

    def score(self, tag: str, layer: int, condition: str) -> Mapping[str, Any] | None:
        """A model's row of `summary.json`, likewise."""
        return self.models[tag].scores.get((0 if tag == "mfcc" else layer, condition))


def summarize(folder: Path | str, *, primary_layer: int | None = None) -> Summary:
    """Read a run's folder, compare ``abx/before`` with ``abx/after``, and write ``comparisons.json`` into it.

    Args:
        folder: see the README; every part but the folder itself may be missing.
        primary_layer: the layer that the verdict is about; by default ``primary_layer`` of the run's configuration, or
            where the baseline is best, of the ``trainable_layers`` in ``run.json``.

    Raises:
        InputError: there is no such folder, a file in it cannot be read, the two models were not scored on the same
            cells, or ``primary_layer`` was not scored.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a run's folder; give one that w2v-abx train made, outputs/<name>/<time>")
    config, facts = _config(folder / "config.yaml"), read_json(folder / "run.json")
    marks = {"runs": "analyze", "before": "compare", "tag": "abx"}  # a key that only this command has
    command = next((command for key, command in marks.items() if key in config), "train")
    names = dict(NAMES)
    if command == "compare":
        names |= zip(("before", "after"), _short(str(config["before"]), str(config["after"])), strict=True)
    found = {path.parent.name: _model(path, names) for path in folder.glob("abx/*/summary.json")}
    models = {tag: found[tag] for tag in sorted(found, key=lambda t: (list(NAMES).index(t) if t in NAMES else 9, t))}
    comparisons: list[Comparison] = []
    primary: Comparison | None = None
    absent = [f"abx/{tag}" for tag in ("before", "after") if tag not in models]
    if command == "abx" and config["tag"] in models:
        sentence = _measured(models[config["tag"]])
    elif command == "analyze":
        sentence = str(facts.get("verdict", "Nothing was analysed."))
    elif absent:
        sentence = f"Nothing was compared: this run has no {' and no '.join(absent)}."
    else:
        seed = config["seed"] if isinstance(config.get("seed"), int) else 0
        layer = config.get("primary_layer") if primary_layer is None else primary_layer
        before, after, able = models["before"], models["after"], facts.get("trainable_layers")
        comparisons = _compared(before, after, seed)
        primary = _primary([c for c in comparisons if c.condition in before.main], layer, able)
        comparisons = correct(comparisons, primary, able)
        corpus = config.get("corpus")
        training = corpus.get("name") if isinstance(corpus, dict) else None
        compared = (before.name, after.name) if command == "compare" else None
        sentence = verdict(comparisons, primary, training=training, names=compared, able=able)
        written = {
            "verdict": sentence,
            "primary": {"layer": primary.layer, "condition": primary.condition},
            "smallest_change": primary.smallest_change(),
            "trainable_layers": able,
            "seed": seed,
            "comparisons": [comparison.to_dict() for comparison in comparisons],
        }
        write_json(folder / "comparisons.json", written)
    return Summary(folder, config, facts, command, models, comparisons, primary, sentence)


def _compared(before: Model, after: Model, seed: int) -> list[Comparison]:
    """Compare all layers and conditions; those together that are averaged alike."""
    averaging, found = dict(before.averaging), list[Comparison]()
    for alike in [*{repr(way): way for way in averaging.values()}.values()]:
        others = [condition for condition, way in averaging.items() if way != alike]
        tables = [model.cells.filter(~pl.col("condition").is_in(others)) for model in (before, after)]
        found += compare_all(tables[0], tables[1], **alike, seed=seed)
    return found


def _primary(comparisons: Sequence[Comparison], layer: int | None, able: Sequence[int] | None) -> Comparison:
    """The comparison that decides, at ``layer`` if that is given."""
    chosen = comparisons if layer is None else [c for c in comparisons if c.layer == layer]
    if not chosen:
        scored = ", ".join(str(x) for x in sorted({c.layer for c in comparisons if c.layer is not None}))
        raise InputError(f"primary_layer={layer} was not scored; this run has the layers {scored}")
    return primary_comparison(chosen, able)


def _short(before: str, after: str) -> tuple[str, str]:
    """The ends of two paths that tell them apart; both whole where nothing does."""
    ends = [Path(path).parts for path in (before, after)]
    for depth in range(1, max(map(len, ends))):
        one, other = ("/".join(parts[-depth:]) for parts in ends)
        if one != other:
            return one, other
    return before, after


def _measured(model: Model) -> str:
    """What one model's scores say, in a sentence for each condition."""
    sentences = []
    for condition in model.conditions:
        layer, found = min(
            ((layer, error) for (layer, c), error in model.errors.items() if c == condition), key=lambda e: e[1].value
        )
        interval = f" (95 % interval {100 * found.low:.1f} to {100 * found.high:.1f})" if found.resampled else ""
        at = f", lowest at layer {layer}" if len({layer for layer, _ in model.errors}) > 1 else ""
        error = f"{100 * found.value:.1f} %{interval}{at}"
        sentences.append(f"ABX error of {model.name} {in_words(condition)}: {error}.")
    return " ".join([*sentences, *few(model)])


def few(model: Model) -> list[str]:
    """Warn of conditions in which too little was measured for an error to say much."""
    warnings = []
    for condition in model.conditions:
        layer = min(layer for layer, c in model.errors if c == condition)
        error, label = model.errors[layer, condition], noun(model.averaging[condition]["on"])
        counts = {"triplet": model.scores[layer, condition]["triplets"], "pair": error.n_pairs}
        counts |= {"speaker": error.n_speakers} if error.n_speakers else {}
        scarce = [
            f"{n} {name.replace('pair', f'{label} pair')}{'s' * (n != 1)}"
            for name, n in counts.items()
            if n < FEW[name]
        ]
        if scarce:
            advice = "read the interval, not the error alone" if error.resampled else "there is no interval from so few"
            warnings.append(f"Few data {in_words(condition)}: {' and '.join(scarce)}; {advice}.")
    return warnings


def _model(path: Path, names: Mapping[str, str]) -> Model:
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
    parts = cells.partition_by("layer", "condition", as_dict=True)
    if set(parts) != set(rows):
        raise InputError(f"{table} holds other layers and conditions than {path.name}; run w2v-abx abx again")
    averaging = {where[1]: _averaging(summary, row, parts[where]) for where, row in rows.items()}
    # Condition by condition: the layers of each have the same cells.
    errors = {key: estimate(parts[key], **averaging[key[1]]) for key in sorted(parts, key=lambda key: (key[1], key[0]))}
    tag = path.parent.name
    name = names.get(tag) or Path(str(summary.get("model", tag))).name  # of features, their folder
    return Model(tag, name, distance, summary.get("slicing", "exact"), on, averaging, cells, rows, errors)


def _averaging(summary: Mapping[str, Any], row: Mapping[str, Any], cells: pl.DataFrame) -> dict[str, Any]:
    """How the cells of a row's condition become one error, as `estimate` takes it."""
    on = row.get("on", summary["on"])
    # A column that only other conditions have is here, and null throughout.
    spoken = "speaker" in cells.columns and cells["speaker"].null_count() < cells.height and on != "speaker"
    return {
        "on": on,
        "speaker": "speaker" if spoken else None,
        "levels": summary.get("levels") if row.get("main", True) else None,
        "weighted": summary.get("weighted", False),
    }


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


def read_numbers(path: Path) -> dict[str, Floats]:
    """Read the columns of a CSV log as float64, ``nan`` where there is no number; none where there are no rows."""
    columns = [] if (log := read_log(path)).is_empty() else log.get_columns()
    return {column.name: column.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy() for column in columns}
