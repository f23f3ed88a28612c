"""The report's figures, in colours that the colour-blind can tell apart (Okabe & Ito, 2008)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from w2v_abx.report.summary import CONDITIONS, NAMES, Model, Summary
from w2v_abx.statistics.intervals import Floats, phone_pairs

__all__ = ["Drawing", "draw_all"]

COLOURS = {"before": "#0072B2", "after": "#D55E00", "mfcc": "#555555", "random": "#009E73"}
OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = {"before": "o", "after": "s", "mfcc": "", "random": "^"}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "text.parse_math": False,  # a dollar sign in a category's name is a dollar sign
}
MOST_CHANGED = 20  # phone pairs listed by name


@dataclass(frozen=True)
class Drawing:
    """A figure, the file name it is saved under, and what it shows in words."""

    name: str
    figure: Figure
    text: str


def draw_all(summary: Summary) -> dict[str, Drawing]:
    """Every figure that the run has data for, by name: layers, phone_pairs, deltas, training, head_NAME."""
    makers: list[Callable[[Summary], Drawing | None]] = [_layers, _phone_pairs, _deltas, _training]
    with matplotlib.rc_context(STYLE):
        drawings = [drawing for make in makers if (drawing := make(summary))]
        drawings += [_categories(name, head) for name, head in summary.heads.items() if head["drawn"]]
        drawings += [_confusion(name, head) for name, head in summary.heads.items() if head["confusion"]]
    return {drawing.name: drawing for drawing in drawings}


def _colour(summary: Summary, tag: str) -> str:
    others = [t for t in summary.models if t not in COLOURS]
    return COLOURS.get(tag) or OTHERS[others.index(tag) % len(OTHERS)]


def _layers(summary: Summary) -> Drawing | None:
    """ABX error by layer, a panel per condition, with 95 % intervals."""
    if not summary.models:
        return None
    conditions = summary.conditions
    figure = Figure(figsize=(5.2 * max(len(conditions), 1.4), 4.2), layout="constrained")
    panels = figure.subplots(1, len(conditions), sharey=True, squeeze=False)[0]
    for axes, condition in zip(panels, conditions, strict=True):
        layers = summary.layers(condition)
        for number, (tag, model) in enumerate(summary.models.items()):
            found = [(layer, e) for (layer, c), e in sorted(model.errors.items()) if c == condition]
            colour = _colour(summary, tag)
            if tag == "mfcc" and found:
                error = found[0][1]
                axes.axhline(100 * error.value, color=colour, linestyle="--", label=model.name)
                axes.axhspan(100 * error.low, 100 * error.high, color=colour, alpha=0.12, linewidth=0)
            elif found:
                # A little apart, so that intervals of two models at one layer do not hide each other.
                x = np.array([layer for layer, _ in found]) + 0.07 * (number - (len(summary.models) - 1) / 2)
                middle = np.array([100 * e.value for _, e in found])
                bounds = np.array([[100 * (e.value - e.low), 100 * (e.high - e.value)] for _, e in found]).T
                style = {"color": colour, "marker": MARKERS.get(tag, "D"), "markersize": 5, "capsize": 2.5}
                axes.errorbar(x, middle, np.nan_to_num(bounds), label=model.name, linewidth=1.6, **style)
        axes.set(title=CONDITIONS.get(condition, condition).capitalize(), xlabel="layer", ylim=(0, None))
        axes.set_xticks(layers)
    panels[0].set_ylabel("ABX error (%)")
    panels[-1].legend(loc="best")
    text = (
        "ABX error by layer with each model's own 95 % interval. A change is measured pair by pair, and so surer than "
        "two such intervals suggest: it is in the table."
    )
    return Drawing("layers", figure, text)


def _phone_pairs(summary: Summary) -> Drawing | None:
    """Error per phone pair before and after, their difference, and the pairs that changed most."""
    primary = summary.primary
    if primary is None or primary.layer is None or primary.condition is None:
        return None
    names, before = _matrix(summary.models["before"], primary.layer, primary.condition)
    _, after = _matrix(summary.models["after"], primary.layer, primary.condition)
    order = _similar_beside(before)
    names, before, after = [names[i] for i in order], before[np.ix_(order, order)], after[np.ix_(order, order)]
    change = after - before

    figure = Figure(figsize=(12, 10.5), layout="compressed")
    panels = figure.subplots(2, 2)
    top = max(float(np.nanmax([before, after])), 1.0)
    limit = max(float(np.nanmax(np.abs(change))), 1.0)
    error = {"cmap": "cividis", "vmin": 0, "vmax": top}
    shown: list[tuple[Axes, str, Floats, dict[str, Any], str]] = [
        (panels[0, 0], "Baseline", before, error, "ABX error (%)"),
        (panels[0, 1], "Fine-tuned", after, error, "ABX error (%)"),
        (panels[1, 0], "Change", change, {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit}, "change (points)"),
    ]
    small = 9 if len(names) <= 25 else 6
    noun = primary.on.lstrip("#")
    for axes, title, values, colours, label in shown:
        image = axes.imshow(values, interpolation="nearest", **colours)
        axes.set_facecolor("#dddddd")  # what no cell tells
        axes.set(title=title, xlabel=f"{noun} B", ylabel=f"{noun} A and X")
        axes.set_xticks(range(len(names)), names, fontsize=small, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names, fontsize=small)
        axes.grid(False)
        figure.colorbar(image, ax=axes, shrink=0.85, label=label)
    _most_changed(panels[1, 1], names, before, after)
    where = f"{CONDITIONS.get(primary.condition, primary.condition)} at layer {primary.layer}"
    text = f"ABX error of each pair {where}; {noun}s that the baseline confuses stand side by side, grey: no cells."
    return Drawing("phone_pairs", figure, text)


def _matrix(model: Model, layer: int, condition: str) -> tuple[list[str], Floats]:
    """Errors in percent, rows A, columns B, ``nan`` where there is no cell."""
    table = phone_pairs(model.select(layer, condition), on=model.on, speaker=model.speaker)
    first, second = table[model.on].to_list(), table[f"{model.on}_b"].to_list()
    names = sorted({*first, *second})
    errors = np.full((len(names), len(names)), np.nan)
    position = {name: i for i, name in enumerate(names)}
    errors[[position[a] for a in first], [position[b] for b in second]] = 100 * table["error"].to_numpy()
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


def _most_changed(axes: Axes, names: list[str], before: Floats, after: Floats) -> None:
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


def _deltas(summary: Summary) -> Drawing | None:
    """Histograms of delta values, raw and scale-free, before and after."""
    primary = summary.primary
    if primary is None or primary.layer is None or primary.condition is None:
        return None
    figure = Figure(figsize=(10.4, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    kinds = (("", "Raw", "d(B, X) − d(A, X)"), ("scale_free_", "Scale-free", "(d(B, X) − d(A, X)) ÷ mean distance"))
    for axes, (prefix, title, label) in zip(panels, kinds, strict=True):
        reach = 0.0
        for tag in ("before", "after"):
            delta = summary.models[tag].scores[primary.layer, primary.condition]["delta"]
            edges, counts = np.array(delta[f"{prefix}edges"]), np.array(delta[f"{prefix}counts"], dtype=float)
            density = counts / max(counts.sum(), 1) / np.diff(edges)
            axes.stairs(density, edges, color=COLOURS[tag], fill=True, alpha=0.18)
            axes.stairs(density, edges, color=COLOURS[tag], linewidth=1.5, label=NAMES[tag])
            axes.axvline(delta[f"{prefix}mean"], color=COLOURS[tag], linestyle=":", linewidth=1.5)
            # The histogram's range is a power of two, and far wider than most of its triplets.
            inside = np.searchsorted(np.cumsum(counts), counts.sum() * np.array([0.002, 0.998]))
            reach = max(reach, float(np.abs(edges[np.clip(inside + np.array([0, 1]), 0, len(edges) - 1)]).max()))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(title=title, xlabel=f"delta value, {label}", ylabel="density", ylim=(0, None))
        axes.set_xlim(-reach, reach) if reach else None
    panels[1].legend(loc="upper left")
    text = (
        f"Delta values of triplets {CONDITIONS.get(primary.condition, primary.condition)} at layer {primary.layer}. "
        "Right of zero the choice is right; dotted: means."
    )
    return Drawing("deltas", figure, text)


def _training(summary: Summary) -> Drawing | None:
    """Losses, temperature and micro-batch, over minutes where thermal.csv gives the time of a step."""
    thermal = _numbers(summary.thermal, ("time", "step", "temperature", "microbatch"))
    metrics = _numbers(summary.metrics, ["step", *(c for c in summary.metrics.columns if c.endswith("loss"))])
    minutes = thermal.pop("time", np.array([])) / 60
    passed, steps = thermal.pop("step", np.full(len(minutes), np.nan)), metrics.pop("step", np.array([]))
    known = np.isfinite(minutes) & np.isfinite(passed)
    timed = bool(known.sum() > 1)
    losses = {name: values for name, values in metrics.items() if len(steps) and np.isfinite(values).any()}
    for phase in ("train", "valid"):
        of_heads = [name for name in losses if name.startswith(f"{phase}/") and name != f"{phase}/loss"]
        if len(of_heads) == 1 and f"{phase}/loss" in losses:  # one head's loss is the whole
            del losses[of_heads[0]]
    measured = {name: values for name, values in thermal.items() if len(minutes) and np.isfinite(values).any()}
    panels = (["loss"] if losses else []) + list(measured)
    if not panels:
        return None
    heights = [{"loss": 3.0, "temperature": 2.2, "microbatch": 1.3}[panel] for panel in panels]
    figure = Figure(figsize=(10.4, sum(heights) + 0.5), layout="constrained")
    column = figure.subplots(len(panels), 1, sharex=timed, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(column, panels, strict=True):
        if panel == "loss":
            for colour, (label, values) in zip(cycle([*COLOURS.values(), *OTHERS]), losses.items()):
                kept = np.isfinite(values) & np.isfinite(steps)
                x = np.interp(steps[kept], passed[known], minutes[known]) if timed else steps[kept]
                axes.plot(x, values[kept], "o-" if kept.sum() < 40 else "-", color=colour, label=label, markersize=4)
            axes.set(title="Loss", ylabel="loss", xlabel="" if timed else "step")
            axes.legend()
        elif panel == "temperature":
            axes.plot(minutes, measured[panel], color=COLOURS["after"])
            axes.set(title="Temperature", ylabel="°C")
        else:
            axes.step(minutes, measured[panel], where="post", color=COLOURS["before"])
            axes.set(title="Micro-batch", ylabel="clips", ylim=(0, None))
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    if timed or measured:
        column[-1].set_xlabel("minutes of training")
    return Drawing(
        "training", figure, f"{', '.join(axes.get_title('left') for axes in column).capitalize()} over training."
    )


def _numbers(frame: pl.DataFrame, columns: Iterable[str]) -> dict[str, Floats]:
    """Columns of a log as float64, ``nan`` where empty."""
    there = [column for column in columns if column in frame.columns]
    cast = frame.select(pl.col(there).cast(pl.Float64, strict=False).fill_null(np.nan)) if there else frame
    return {column: cast[column].to_numpy() for column in there}


def _categories(name: str, head: Mapping[str, Any]) -> Drawing:
    """What a head reaches in each category, beside what a guess would give."""
    column = head["drawn"]
    title = head["titles"].get(column, column)
    rated = [row for row in head["rows"] if row[column] is not None]
    rated.sort(key=lambda row: (row[column], row["category"]))
    figure = Figure(figsize=(8.5, 1.2 + 0.26 * max(len(rated), 3)), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(rated))
    axes.barh(y, [row[column] for row in rated], color=COLOURS["before"], height=0.7)
    if rated and "guess" in rated[0]:
        guess = [row["guess"] for row in rated]
        axes.plot(guess, y, "|", color="black", markersize=11, markeredgewidth=2, label="a guess")
        axes.legend(loc="lower right")
    axes.set_yticks(y, [row["category"] for row in rated])
    axes.set(title=f'Head "{name}" on held-out clips', xlabel=title, xlim=(0, 1), ylim=(-0.6, len(rated) - 0.4))
    axes.grid(axis="y", visible=False)
    return Drawing(f"head_{name}", figure, f'{title[0].upper()}{title[1:]} of the head "{name}" for each category.')


def _confusion(name: str, head: Mapping[str, Any]) -> Drawing:
    """How often each category was taken for each, as a proportion of its clips."""
    labels, counts = head["labels"], np.array(head["confusion"], dtype=float)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = 2.5 + 0.32 * len(labels)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(drawn, ax=axes, label="proportion of the category")
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(title=f'Head "{name}" on held-out clips', xlabel="taken for", ylabel="category")
    axes.grid(visible=False)
    return Drawing(f"confusion_{name}", figure, f'What the head "{name}" took each category for.')
