"""ABX error of each pair of labels in two models, and the pairs that changed most surely."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from w2v_abx.report.section import COLOURS, Drawing, Section, Table, percent
from w2v_abx.report.summary import Model, Summary
from w2v_abx.statistics.cells import Floats
from w2v_abx.statistics.pairs import changed_pairs, label_pairs
from w2v_abx.statistics.verdict import in_words, noun, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["render"]

MOST_CHANGED = 20  # pairs listed by name


def render(summary: Summary) -> Section | None:
    title = "Which pairs changed"
    if summary.decisive is None:
        return Section(title, [summary.verdict]) if summary.command == "train" else None
    layer, condition = summary.decisive
    models = summary.models["before"], summary.models["after"]
    name, label = models[0].name, noun(models[0].on)
    changed = changed_pairs(*(model.select(layer, condition) for model in models), **models[0].averaging[condition])
    changed = changed.filter(pl.col("change") != 0)
    text = (
        f"ABX error of each pair {in_words(condition)} at layer {layer}; {label}s that {name} confuses stand side by "
        "side, grey: no cells."
    )

    def draw(figure: "Figure") -> None:
        names, errors = _matrix(models[0], layer, condition)
        _draw(figure, [model.name for model in models], label, names, errors, _matrix(models[1], layer, condition)[1])
        _draw_most_changed(figure.axes[3], [model.name for model in models], changed.head(MOST_CHANGED))

    drawing = Drawing("pairs", text, (12, 10.5), draw, layout="compressed")
    return Section(title, [drawing, _changed(summary, changed.head(MOST_CHANGED))])


def _changed(summary: Summary, changed: pl.DataFrame) -> Table:
    """The pairs whose change is surest, with counts."""
    models = summary.models["before"], summary.models["after"]
    columns = ["pair", *(model.name for model in models), "change ± standard error", "cells", "triplets"]
    rows = [
        [
            f"{a} – {b}",
            percent(before),
            percent(after),
            f"{points(change)} ± {100 * error:.1f}",
            f"{cells:,}",
            f"{triplets:,}",
        ]
        for a, b, before, after, change, error, cells, triplets in changed.iter_rows()
    ]
    note = (
        "In the order of change over standard error, which rare pairs, of few triplets, have large. These pairs were "
        "chosen because they changed: a new measurement would show less."
    )
    title = f"Pairs of {noun(models[0].on)}s that changed most surely: ABX error (%)"
    return Table(title, columns, rows, note if rows else "Not one pair changed.", folded="Numbers for these pairs")


def _matrix(model: Model, layer: int, condition: str) -> tuple[list[str], Floats]:
    """Errors in percent, rows A, columns B, ``nan`` where there is no cell."""
    table = label_pairs(model.select(layer, condition), **model.averaging[condition])
    first, second = table[model.on].to_list(), table[f"{model.on}_b"].to_list()
    names = sorted({*first, *second})
    errors = np.full((len(names), len(names)), np.nan)
    errors[[names.index(a) for a in first], [names.index(b) for b in second]] = 100 * table["error"].to_numpy()
    return names, errors


def _both_ways(errors: Floats) -> Floats:
    """Mean of (a, b) and (b, a); ``nan`` where neither has cells."""
    stacked = np.stack([errors, errors.T])
    there = np.isfinite(stacked)
    return np.where(there.any(0), np.where(there, stacked, 0).sum(0) / np.maximum(there.sum(0), 1), np.nan)


def _similar_beside(errors: Floats) -> list[int]:
    """An order in which rows that are confused with each other are neighbours."""
    both = _both_ways(errors)
    if len(both) < 3:
        return list(range(len(both)))
    distance = np.nanmax(both) - np.where(np.isfinite(both), both, np.nanmean(both))
    np.fill_diagonal(distance, 0)
    return [int(i) for i in leaves_list(linkage(squareform(distance), "average", optimal_ordering=True))]


def _draw(figure: "Figure", models: Sequence[str], label: str, names: list[str], before: Floats, after: Floats) -> None:
    order = _similar_beside(before)
    names, before, after = [names[i] for i in order], before[np.ix_(order, order)], after[np.ix_(order, order)]
    change = after - before
    plots = figure.subplots(2, 2)
    top = max(float(np.nanmax([before, after])), 1.0)
    limit = max(float(np.nanmax(np.abs(change))), 1.0)
    error = {"cmap": "cividis", "vmin": 0, "vmax": top}
    shown: list[tuple[Axes, str, Floats, dict[str, Any], str]] = [
        (plots[0, 0], models[0][:1].upper() + models[0][1:], before, error, "ABX error (%)"),
        (plots[0, 1], models[1][:1].upper() + models[1][1:], after, error, "ABX error (%)"),
        (plots[1, 0], "Change", change, {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit}, "change (points)"),
    ]
    small = 9 if len(names) <= 25 else 6
    for axes, title, values, colours, legend in shown:
        image = axes.imshow(values, interpolation="nearest", **colours)
        axes.set_facecolor("#dddddd")  # where there are no cells
        axes.set(title=title, xlabel=f"{label} B", ylabel=f"{label} A and X")
        axes.set_xticks(range(len(names)), names, fontsize=small, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names, fontsize=small)
        axes.grid(False)
        figure.colorbar(image, ax=axes, shrink=0.85, label=legend)


def _draw_most_changed(axes: "Axes", models: Sequence[str], changed: pl.DataFrame) -> None:
    if changed.is_empty():
        axes.set_title("Not one pair changed")
        axes.set_axis_off()
        return
    shown = changed.sort("change")
    y = np.arange(shown.height)
    axes.hlines(y, 100 * shown["before"], 100 * shown["after"], color="#999999", linewidth=1.5)
    for marker, when, name in zip("os", ("before", "after"), models, strict=True):
        axes.plot(100 * shown[when], y, marker, color=COLOURS[when], label=name)
    axes.set_yticks(y, [f"{a} – {b} ({n:,})" for a, b, n in shown.select(pl.nth(0, 1), "triplets").iter_rows()])
    title = "Pairs that changed most surely (triplets)"
    axes.set(title=title, xlabel="ABX error (%)", xlim=(0, None))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
