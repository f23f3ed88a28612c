"""What training has taken from layers and added to them, against the untrained model."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from w2v_abx.analysis.analysis import read_result
from w2v_abx.report.analyses.figures import layer_panels, model_colours, model_name
from w2v_abx.report.section import NONE, Drawing, Section, Table, number, percent
from w2v_abx.report.summary import Summary
from w2v_abx.statistics.verdict import in_words, noun, points

__all__ = ["render"]

MEASURES = {"similarity": "SVCCA, held out", "accuracy": "accuracy of probes"}
COLLAPSED = {"speakers": "directions of speakers", "control": "as many others"}


def render(summary: Summary) -> Section | None:
    """Make a table of the last layer, figures of the changes by layer and of directions, and all numbers folded."""
    result = read_result(summary.folder, "normalisation")
    if result is None:
        return None
    changes, facts = result.tables["changes"], result.facts
    colours = model_colours([*facts["tasks"]])
    shown = changes.filter(~pl.col("model").is_in(facts["baselines"]))
    last = _last(shown, facts["tasks"], facts["reference"])
    parts: list[Any] = [last]
    parts += [_figure(measure, shown, facts["reference"], colours) for measure in MEASURES]
    parts.append(_orthogonality(result.tables["directions"], facts["said"], colours))
    if "collapsed" in result.tables:
        parts.append(_collapsed(result.tables["collapsed"]))
    parts += [" ".join(result.notes), _numbers(changes)]
    return Section("Normalisation", parts, terminal=[last])


def _last(shown: pl.DataFrame, tasks: Mapping[str, list[str]], reference: str) -> Table:
    """The changes of each model's last layer; what it was taught is marked."""
    models = shown["model"].unique(maintain_order=True).to_list()
    found = shown.filter(pl.col("layer") == pl.col("layer").max().over("model"))
    rows = []
    for measure, words in MEASURES.items():
        for label in found["label"].unique(maintain_order=True):
            row = [f"{noun(label)}: {words}"]
            for model in models:
                own = found.filter(model=model, label=label, measure=measure)
                taught = " *" * (label in tasks[model])
                row.append(NONE if own.is_empty() else _change(own.row(0, named=True)) + taught)
            rows.append(row)
    note = f"95 % intervals in brackets; {reference} is 0. *: the model was taught this label."
    return Table("Changes at the last layer, in points of 100", ["", *map(model_name, models)], rows, note)


def _change(row: Mapping[str, Any]) -> str:
    text = points(row["difference"])
    return text if row["low"] is None else f"{text} [{points(row['low'])}, {points(row['high'])}]"


def _figure(measure: str, shown: pl.DataFrame, reference: str, colours: dict[str, str]) -> Drawing:
    table = shown.filter(measure=measure).with_columns(pl.col("difference", "low", "high") * 100)
    return layer_panels(
        f"normalisation_{measure}",
        f"{MEASURES[measure]}: how much more each layer has than that of {reference}; shaded: 95 % intervals, paired.",
        table,
        value="difference",
        axis=f"change of {MEASURES[measure]} (points)",
        interval=("low", "high"),
        colours=colours,
    )


def _orthogonality(directions: pl.DataFrame, said: str, colours: dict[str, str]) -> Drawing:
    table = directions.with_columns(panel=pl.lit(f"speaker and {noun(said)}"))
    return layer_panels(
        "normalisation_directions",
        f"Overlap of the directions of speakers and of {noun(said)}s: mean square cosine of their angles, 0 where they "
        f"are orthogonal; dotted: of permuted {noun(said)}s.",
        table,
        value="overlap",
        axis="overlap",
        interval=("low", "high"),
        floor="floor",
        panel="panel",
        colours=colours,
    )


def _collapsed(collapsed: pl.DataFrame) -> Table:
    """ABX errors without the directions of speakers, and without as many others."""
    columns = ["model", "layer", "condition", "collapsed", "directions", "error (%)", "then", "change [95 % interval]"]
    rows = [
        [
            model_name(row["model"]),
            str(row["layer"]),
            in_words(row["condition"]),
            COLLAPSED[row["collapsed"]],
            number(row["directions"], ".0f"),
            percent(row["first"]),
            percent(row["second"]),
            f"{points(row['difference'])} [{points(row['low'])}, {points(row['high'])}]",
        ]
        for row in collapsed.iter_rows(named=True)
    ]
    note = "Directions are learnt on one half of the speakers and collapsed in the other."
    return Table("ABX error with directions collapsed", columns, rows, note)


def _numbers(changes: pl.DataFrame) -> Table:
    columns = ["model", "layer", "label", "measure", "untrained", "trained", "difference", "low", "high"]
    rows = [
        [model_name(model), str(layer), noun(label), MEASURES[measure], *(number(x, ".3f") for x in found)]
        for model, layer, label, measure, *found in changes.iter_rows()
    ]
    return Table("Changes of all layers", columns, rows, folded="Numbers of normalisation")
