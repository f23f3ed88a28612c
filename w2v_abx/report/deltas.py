"""Delta values: how far apart a triplet's distances are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from w2v_abx.report.section import COLOURS, NONE, Drawing, Section, Table, number
from w2v_abx.report.summary import Summary
from w2v_abx.statistics.verdict import in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["delta_tables", "render"]


def render(summary: Summary) -> Section | None:
    tables = delta_tables(summary)
    if summary.decisive is None:
        missing = [summary.verdict] if summary.command == "train" else []
        if not tables and not missing:
            return None
        return Section("Delta values", [*tables, *missing], terminal=tables if missing else [])
    layer, condition = summary.decisive
    text = (
        f"Delta values of triplets {in_words(condition)} at layer {layer}. Right of zero the choice is right; dotted: "
        "means."
    )
    deltas = {tag: summary.models[tag].scores[layer, condition]["delta"] for tag in ("before", "after")}
    names = {tag: summary.models[tag].name for tag in deltas}
    drawing = Drawing("deltas", text, (10.4, 3.8), lambda figure: _draw(figure, names, deltas))
    return Section("Delta values", [*tables, drawing], terminal=tables)


def delta_tables(summary: Summary) -> list[Table]:
    """Mean ± standard deviation, raw and scale-free, one table per condition."""
    tables = []
    tags = [tag for tag in summary.models if tag not in ("mfcc", "random")]
    columns = ["layer", *(f"{summary.models[tag].name}{kind}" for kind in ("", ", scale-free") for tag in tags)]
    note = "Mean ± standard deviation over triplets; scale-free: divided by the mean distance."
    for condition in summary.conditions if tags else ():
        rows: list[list[str]] = []
        for layer in summary.layers(condition):
            row = [str(layer)]
            for prefix, form in (("", ".4f"), ("scale_free_", ".3f")):
                for tag in tags:
                    score = summary.score(tag, layer, condition)
                    row.append(_spread(score["delta"] if score else {}, prefix, form))
            rows.append(row)
        tables.append(Table(f"Delta value {in_words(condition)}", columns, rows, note))
    return tables


def _spread(delta: Mapping[str, Any], prefix: str, form: str) -> str:
    mean, std = (number(delta.get(f"{prefix}{key}"), form) for key in ("mean", "std"))
    return NONE if NONE in (mean, std) else f"{mean} ± {std}"


def _draw(figure: "Figure", names: Mapping[str, str], deltas: Mapping[str, Mapping[str, Any]]) -> None:
    """Histograms, raw and scale-free, before and after."""
    plots = figure.subplots(1, 2)
    kinds = (("", "Raw", "d(B, X) − d(A, X)"), ("scale_free_", "Scale-free", "(d(B, X) − d(A, X)) ÷ mean distance"))
    for axes, (prefix, title, label) in zip(plots, kinds, strict=True):
        reach = 0.0
        for tag, delta in deltas.items():
            edges, counts = np.array(delta[f"{prefix}edges"]), np.array(delta[f"{prefix}counts"], dtype=float)
            density = counts / max(counts.sum(), 1) / np.diff(edges)
            axes.stairs(density, edges, color=COLOURS[tag], fill=True, alpha=0.18)
            axes.stairs(density, edges, color=COLOURS[tag], linewidth=1.5, label=names[tag])
            axes.axvline(delta[f"{prefix}mean"], color=COLOURS[tag], linestyle=":", linewidth=1.5)
            # The histogram's range is a power of two, and far wider than most of its triplets.
            inside = np.searchsorted(np.cumsum(counts), counts.sum() * np.array([0.002, 0.998]))
            reach = max(reach, float(np.abs(edges[np.clip(inside + np.array([0, 1]), 0, len(edges) - 1)]).max()))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(title=title, xlabel=f"delta value, {label}", ylabel="density", ylim=(0, None))
        axes.set_xlim(-reach, reach) if reach else None
    plots[1].legend(loc="upper left")
