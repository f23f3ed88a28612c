"""Similarity of layers to labels, and to the layers of the untrained model."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from w2v_abx.analysis.analysis import AnalysisResult, read_result
from w2v_abx.report.analyses.figures import layer_panels, model_colours, model_name
from w2v_abx.report.section import Drawing, Section, Table, number
from w2v_abx.report.summary import Summary
from w2v_abx.statistics.verdict import noun

__all__ = ["render"]

MEASURES = {"svcca": "SVCCA", "cca": "CCA", "pwcca": "PWCCA", "cka": "linear CKA"}
NUMBERS = {
    "components": "correlations",
    "similarity": "in the sample",
    "floor": "permuted",
    "held_out": "held out",
    "low": "low",
    "high": "high",
    "held_out_floor": "permuted, held out",
    "split_half": "split half",
}
SHADED = "Shaded: 95 % intervals over folds of speakers; dotted: permuted labels."


def render(summary: Summary) -> Section | None:
    """Make the best layers, the figures of the study, and all numbers folded."""
    result = read_result(summary.folder, "similarity")
    if result is None:
        return None
    table = result.tables["labels"]
    held = table.filter(pl.col("measure") == "svcca", pl.col("held_out").is_not_null())
    parts: list[Any] = [_best(held)]
    parts += _figures(held, result.facts)
    parts += _between(result)
    parts += ["Layer 0 is what enters the first block. " + " ".join(result.notes), *_numbers(result)]
    return Section("Similarity to labels", parts, terminal=parts[:1])


def _best(held: pl.DataFrame) -> Table:
    """The best layer of each model for each label."""
    models = held["model"].unique(maintain_order=True).to_list()
    rows = []
    for label in held["label"].unique(maintain_order=True):
        row = [noun(label)]
        for model in models:
            found = held.filter(model=model, label=label).sort("held_out", descending=True).head(1)
            row.append("-" if found.is_empty() else f"{found['held_out'][0]:.2f} ({found['layer'][0]})")
        floor = held.filter(label=label)["held_out_floor"].mean()
        rows.append([*row, number(floor, ".2f")])
    title = "SVCCA with labels, held out by speaker: highest of all layers (layer)"
    return Table(title, ["label", *map(model_name, models), "permuted labels"], rows)


def _figures(held: pl.DataFrame, facts: Mapping[str, Any]) -> list[Drawing]:
    """The study's three: the untrained model, models taught the label, models taught other labels."""
    tasks, untrained = facts["tasks"], [facts["reference"], *facts["baselines"]]
    drawings = [_of_untrained(held, [name for name in untrained if name != "mfcc"])]
    known = {name: found for name, found in tasks.items() if found}
    columns = list(facts["labels"])
    trained = {label: [name for name, taught in known.items() if label in taught] for label in columns}
    others = {label: [name for name, taught in known.items() if label not in taught] for label in columns}
    colours = model_colours(held["model"])
    for name, chosen, text in (
        ("similarity_target", trained, "models that were taught the label"),
        ("similarity_other", others, "models that were taught other labels"),
    ):
        shown = {label: {*untrained, *chosen[label]} for label in columns if chosen[label]}
        if shown:
            about = f"SVCCA of layers and labels: {text}, beside those that were not trained. {SHADED}"
            drawings.append(_panels(name, about, held, shown, colours))
    unknown = [name for name in tasks if name not in (*known, *untrained)]
    if unknown or not known:
        about = f"SVCCA of layers and labels in all models. {SHADED}"
        shown = {label: set(tasks) for label in columns}
        drawings.append(_panels("similarity_models", about, held, shown, colours))
    return drawings


def _of_untrained(held: pl.DataFrame, models: Sequence[str]) -> Drawing:
    """A panel for each model that was not trained here, a line for each label."""
    table = held.filter(pl.col("model").is_in(models)).with_columns(
        panel=pl.col("model").replace({name: model_name(name) for name in models}),
        model=pl.col("label").replace({name: noun(name) for name in held["label"].unique()}),
    )
    text = f"SVCCA of layers and labels, held out by speaker, in models that were not trained here. {SHADED}"
    return layer_panels("similarity_untrained", text, table, **_DRAWN, panel="panel")


def _panels(
    name: str, text: str, held: pl.DataFrame, shown: Mapping[str, Collection[str]], colours: dict[str, str]
) -> Drawing:
    rows = [held.filter(pl.col("label") == label, pl.col("model").is_in(models)) for label, models in shown.items()]
    return layer_panels(name, text, pl.concat(rows), **_DRAWN, colours=colours)


_DRAWN: Any = {
    "value": "held_out",
    "axis": "SVCCA, held out",
    "interval": ("low", "high"),
    "floor": "held_out_floor",
}


def _between(result: AnalysisResult) -> list[Drawing]:
    table = result.tables["models"]
    if table.is_empty():
        return []
    shown = table.filter(pl.col("measure").is_in(["svcca", "cka"])).with_columns(
        pl.coalesce("held_out", "similarity").alias("value"), panel=pl.col("measure").replace_strict(MEASURES)
    )
    reference = result.facts["reference"]
    text = f"Similarity of each layer to the same layer of {reference}: SVCCA held out, CKA in the sample."
    colours = model_colours([*result.facts["tasks"]])
    return [
        layer_panels(
            "similarity_between", text, shown, value="value", axis="similarity", panel="panel", colours=colours
        )
    ]


def _numbers(result: AnalysisResult) -> list[Table]:
    tables = []
    for name, title in (("labels", "Similarity to labels"), ("models", "Similarity to the untrained model")):
        columns = [column for column in NUMBERS if result.tables[name][column].is_not_null().any()]
        rows = [
            [
                model_name(model),
                str(layer),
                noun(label),
                MEASURES[measure],
                *(str(x) if isinstance(x, int) else number(x, ".3f") for x in found),
            ]
            for model, layer, label, measure, *found in result.tables[name]
            .select("model", "layer", "label", "measure", *columns)
            .iter_rows()
        ]
        heads = ["model", "layer", "with", "measure", *(NUMBERS[column] for column in columns)]
        if rows:
            tables.append(Table(title, heads, rows, folded=f"Numbers: {title.lower()}"))
    return tables
