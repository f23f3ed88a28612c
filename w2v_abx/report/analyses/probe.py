"""Accuracies of linear probes, layer by layer, model beside model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from w2v_abx.analysis.analysis import read_result
from w2v_abx.report.analyses.figures import layer_panels, model_name
from w2v_abx.report.section import NONE, Section, Table, percent
from w2v_abx.report.summary import Summary
from w2v_abx.statistics.verdict import noun, points

__all__ = ["render"]

RECALL = "mean recall (%)"


def render(summary: Summary) -> Section | None:
    """Make a table of each model's best layer, figures of accuracy and selectivity, and all numbers, folded."""
    result = read_result(summary.folder, "probe")
    if result is None:
        return None
    scores = result.tables["scores"]
    chances = {label: found["chance"] for label, found in result.facts["labels"].items()}
    best = scores.filter(pl.col("accuracy") == pl.col("accuracy").max().over("model", "label"))
    best = best.unique(["model", "label"], keep="first", maintain_order=True).sort("label", maintain_order=True)
    shown = _table("Linear probes: the best layer of each model", best, chances, " ".join(result.notes))
    text = "Accuracy of linear probes on {held}; shaded: 95 % over speakers; dotted: of the control task."
    held = sorted({f"{found['held_out']}s" for found in result.facts["labels"].values()})
    floored = scores.with_columns(
        pl.col("accuracy", "accuracy_low", "accuracy_high", "control", "^selectivity.*$") * 100
    )
    accuracy = layer_panels(
        "probes",
        text.format(held=f"{' or '.join(held)} that they have not seen"),
        floored,
        value="accuracy",
        axis="accuracy (%)",
        interval=("accuracy_low", "accuracy_high"),
        floor="control",
    )
    parts: list[Any] = [shown, accuracy]
    selective = floored.filter(pl.col("selectivity").is_not_null())
    if selective.height:
        parts.append(
            layer_panels(
                "selectivity",
                "Selectivity: accuracy less that of the control task, where each type of segment has a random class.",
                selective,
                value="selectivity",
                axis="selectivity (points)",
                interval=("selectivity_low", "selectivity_high"),
            )
        )
    parts.append(_table("Linear probes, all layers", scores, chances, folded="Numbers of all probes"))
    kept = [column for column in range(len(shown.columns)) if shown.columns[column] != RECALL]
    brief = replace(
        shown,
        columns=[shown.columns[column] for column in kept],
        rows=[[row[column] for column in kept] for row in shown.rows],
    )
    return Section("Linear probes", parts, [brief])


def _table(title: str, scores: pl.DataFrame, chances: Mapping[str, float], note: str = "", folded: str = "") -> Table:
    columns = ["label", "model", "layer", "accuracy (%)", "chance (%)", RECALL, "control (%)", "selectivity"]
    rows = [
        [
            noun(row["label"]),
            model_name(row["model"]),
            str(row["layer"]),
            _interval(row, "accuracy"),
            percent(chances[row["label"]]),
            _interval(row, "recall"),
            percent(row["control"]),
            NONE if row["selectivity"] is None else points(row["selectivity"]),
        ]
        for row in scores.rows(named=True)
    ]
    return Table(title, columns, rows, note, folded=folded)


def _interval(row: Mapping[str, Any], name: str) -> str:
    """Write a value and its interval in percent."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    between = "" if low is None else f" [{percent(low)}, {percent(high)}]"
    return f"{percent(row[name])}{between}"
