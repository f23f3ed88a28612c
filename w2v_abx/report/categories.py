"""How well each category of a head is found, and what it is taken for."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from w2v_abx.heads.edits import NOTHING
from w2v_abx.report.section import COLOURS, Drawing, Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusions", "drawings"]

MAX_BARS = 64  # categories in a figure of bars
MAX_LABELS = 100  # categories in a matrix
BESIDE = 14  # categories up to which matrices have numbers, and those of both splits are drawn, beside each other
DARK = 0.3  # proportion from which on a cell's number is white
CROWDED = 30  # categories from which on letters are small
MOST_CONFUSED = 20  # pairs that a table lists

Parts = Mapping[str, Mapping[str, Any]]  # a head's result by split


def drawings(name: str, parts: Parts) -> list[Drawing]:
    """Draw what a head reaches in each category, and the confusion matrices; as far as it says so."""
    bars = {split: part for split, part in parts.items() if part["drawn"] and part["rows"]}
    matrices = {split: part for split, part in parts.items() if part["confusion"] and len(part["labels"]) <= MAX_LABELS}
    return [draw(name, found) for draw, found in ((_bars, bars), (_matrices, matrices)) if found]


def confusions(name: str, where: str, part: Mapping[str, Any]) -> Table:
    """Tabulate the confusions that came most often."""
    labels, counts = part["labels"], np.array(part["confusion"])
    totals = counts.sum(1)
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    rows = [
        [labels[i], labels[j], f"{wrong[i, j]:,}", number(wrong[i, j] / totals[i], ".3f")]
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[i, j]
    ]
    title = f"Most frequent confusions of {name}{where}"
    note = "" if rows else "There were none."
    return Table(title, ["category", "taken for", "times", "proportion of the category"], rows, note, folded=title)


def _bars(name: str, parts: Parts) -> Drawing:
    """A bar for each category on the last split, and a circle for it on another."""
    *others, shown = parts
    column = parts[shown]["drawn"]
    title = parts[shown]["titles"].get(column, column)
    rated = [row for row in parts[shown]["rows"] if row[column] is not None]
    rated.sort(key=lambda row: (row[column], row["category"]))
    left_out = len(rated) - MAX_BARS
    rated = rated[:MAX_BARS]
    names = [row["category"] for row in rated]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        y = np.arange(len(rated))
        axes.barh(y, [row[column] for row in rated], color=COLOURS["before"], height=0.7, label=shown)
        for split in others:
            values = {row["category"]: row[column] for row in parts[split]["rows"]}
            found = [np.nan if values.get(label) is None else values[label] for label in names]
            style: dict[str, Any] = {"color": COLOURS["after"], "markersize": 5, "fillstyle": "none", "clip_on": False}
            axes.plot(found, y, "o", label=split, **style)
        if rated and "guess" in rated[0]:
            guess = [row["guess"] for row in rated]
            axes.plot(guess, y, "|", color="black", markersize=11, markeredgewidth=2, label="a guess")
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(loc="lower right")
        axes.set_yticks(y, names, fontsize=9 if len(names) <= CROWDED else 7)
        clips = f"{shown} clips" if others else "held-out clips"
        axes.set(title=f'Head "{name}" on {clips}', xlabel=title, xlim=(0, 1), ylim=(-0.6, len(rated) - 0.4))
        axes.grid(axis="y", visible=False)

    text = f'{title[0].upper()}{title[1:]} of the head "{name}" for each category.'
    if left_out > 0:
        text += f" The lowest {MAX_BARS}; {left_out} more are in the table."
    return Drawing(
        f"head_{name}", text, (8.5, 1.2 + (0.26 if len(rated) <= CROWDED else 0.17) * max(len(rated), 3)), draw
    )


def _matrices(name: str, parts: Parts) -> Drawing:
    """How often each category was taken for each, as a proportion of it; where they are many, on the last split."""
    size = max(len(part["labels"]) for part in parts.values())
    shown = parts if size <= BESIDE else dict([list(parts.items())[-1]])
    side = 2.2 + (0.32 if size <= BESIDE else 0.24 if size <= CROWDED else 0.15) * size

    def draw(figure: "Figure") -> None:
        plots = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, (split, part) in zip(plots, shown.items(), strict=True):
            _matrix(axes, part)
            axes.set_title(f'Head "{name}" on {f"{split} clips" if len(parts) > 1 else "held-out clips"}')

    text = f'What the head "{name}" took each category for; colours as the square root, so that rare confusions show.'
    if size <= BESIDE:
        text += " Numbers are in %."
    if any(part["groups"] for part in parts.values()):
        text += " Lines divide classes."
    if any(NOTHING in part["labels"] for part in parts.values()):
        text += f" Column {NOTHING}: left out; row {NOTHING}: put in."
    return Drawing(f"confusion_{name}", text, (len(shown) * (side + 0.9), side), draw, layout="compressed")


def _matrix(axes: "Axes", part: Mapping[str, Any]) -> None:
    from matplotlib.colors import PowerNorm

    order, groups = _order(part["groups"], len(part["labels"]))
    labels = [part["labels"][i] for i in order]
    counts = np.array(part["confusion"], dtype=float)[np.ix_(order, order)]
    proportions = counts / np.maximum(1, counts.sum(1, keepdims=True))
    image = axes.imshow(proportions, norm=PowerNorm(0.5, 0, 1), cmap="Blues", interpolation="nearest")
    small = 9 if len(labels) <= BESIDE else 8 if len(labels) <= CROWDED else 6.5
    axes.set_xticks(range(len(labels)), labels, fontsize=small, rotation=90 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(range(len(labels)), labels, fontsize=small)
    axes.set(xlabel="taken for", ylabel="category")
    axes.grid(visible=False)
    axes.figure.colorbar(image, ax=axes, label="proportion of the category", shrink=0.8, ticks=[0, 0.05, 0.2, 0.5, 1])
    for (row, column), value in np.ndenumerate(proportions if len(labels) <= BESIDE else np.empty((0, 0))):
        colour = "white" if value > DARK else "black"
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    bounds = [i for i, (a, b) in enumerate(pairwise(groups), 1) if a != b]
    for bound in bounds:
        axes.axhline(bound - 0.5, color="black", linewidth=0.8)
        axes.axvline(bound - 0.5, color="black", linewidth=0.8)
    if any(groups):
        spans = list(pairwise([0, *bounds, len(groups)]))
        names = axes.secondary_yaxis("right")
        names.set_yticks([(a + b - 1) / 2 for a, b in spans], [groups[a] for a, _ in spans], fontsize=small)
        names.tick_params(length=0)


def _order(groups: Sequence[str], size: int) -> tuple[list[int], list[str]]:
    """Put the categories of each group beside each other, groups in the order in which they first come."""
    if not groups:
        return list(range(size)), []
    rank = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    order = sorted(range(size), key=lambda i: rank[groups[i]])
    return order, [groups[i] for i in order]
