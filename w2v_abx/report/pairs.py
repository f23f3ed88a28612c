"""ABX error of each phone pair before and after training, and the pairs that changed most."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from w2v_abx.report.section import COLOURS, Drawing, Section
from w2v_abx.report.summary import NAMES, Model, Summary, in_words
from w2v_abx.statistics.intervals import Floats, phone_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["render"]

MOST_CHANGED = 20  # phone pairs listed by name


def render(summary: Summary) -> Section:
    title = "Which pairs changed"
    if summary.decisive is None:
        return Section(title, [summary.verdict])
    layer, condition = summary.decisive
    before, after = summary.models["before"], summary.models["after"]
    noun = before.on.lstrip("#")
    text = (
        f"ABX error of each pair {in_words(condition)} at layer {layer}; {noun}s that the baseline confuses stand side "
        "by side, grey: no cells."
    )

    def draw(figure: "Figure") -> None:
        names, errors = _matrix(before, layer, condition)
        _draw(figure, noun, names, errors, _matrix(after, layer, condition)[1])

    return Section(title, [Drawing("phone_pairs", text, (12, 10.5), draw, layout="compressed")])


def _matrix(model: Model, layer: int, condition: str) -> tuple[list[str], Floats]:
    """Errors in percent, rows A, columns B, ``nan`` where there is no cell."""
    table = phone_pairs(model.select(layer, condition), on=model.on, speaker=model.speaker)
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


def _draw(figure: "Figure", noun: str, names: list[str], before: Floats, after: Floats) -> None:
    order = _similar_beside(before)
    names, before, after = [names[i] for i in order], before[np.ix_(order, order)], after[np.ix_(order, order)]
    change = after - before
    plots = figure.subplots(2, 2)
    top = max(float(np.nanmax([before, after])), 1.0)
    limit = max(float(np.nanmax(np.abs(change))), 1.0)
    error = {"cmap": "cividis", "vmin": 0, "vmax": top}
    shown: list[tuple[Axes, str, Floats, dict[str, Any], str]] = [
        (plots[0, 0], "Baseline", before, error, "ABX error (%)"),
        (plots[0, 1], "Fine-tuned", after, error, "ABX error (%)"),
        (plots[1, 0], "Change", change, {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit}, "change (points)"),
    ]
    small = 9 if len(names) <= 25 else 6
    for axes, title, values, colours, label in shown:
        image = axes.imshow(values, interpolation="nearest", **colours)
        axes.set_facecolor("#dddddd")  # where there are no cells
        axes.set(title=title, xlabel=f"{noun} B", ylabel=f"{noun} A and X")
        axes.set_xticks(range(len(names)), names, fontsize=small, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names, fontsize=small)
        axes.grid(False)
        figure.colorbar(image, ax=axes, shrink=0.85, label=label)
    _draw_most_changed(plots[1, 1], names, before, after)


def _draw_most_changed(axes: "Axes", names: list[str], before: Floats, after: Floats) -> None:
    first, second = _both_ways(before), _both_ways(after)
    rows, columns = np.nonzero(np.triu(np.isfinite(first), 1))
    change = (second - first)[rows, columns]
    chosen = np.argsort(-np.abs(change), kind="stable")[:MOST_CHANGED]
    chosen = chosen[change[chosen] != 0]
    chosen = chosen[np.argsort(change[chosen], kind="stable")]
    if not len(chosen):
        axes.set_title("Not one pair changed")
        axes.set_axis_off()
        return
    y = np.arange(len(chosen))
    old, new = first[rows, columns][chosen], second[rows, columns][chosen]
    axes.hlines(y, old, new, color="#999999", linewidth=1.5)
    axes.plot(old, y, "o", color=COLOURS["before"], label=NAMES["before"])
    axes.plot(new, y, "s", color=COLOURS["after"], label=NAMES["after"])
    axes.set_yticks(y, [f"{names[rows[i]]} – {names[columns[i]]}" for i in chosen])
    axes.set(title=f"Pairs that changed most ({len(chosen)} of {len(change)})", xlabel="ABX error (%)", xlim=(0, None))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
