"""What the figures of analyses share: the colour and name of a model, lines over layers, heat maps."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from w2v_abx.report.section import COLOURS, LINES, Drawing
from w2v_abx.statistics.cells import Floats
from w2v_abx.statistics.verdict import noun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["heat_map", "layer_panels", "model_colours", "model_name", "plot_layers"]

ONE_LAYER = "mfcc"  # drawn as a horizontal line
NAMES = {"mfcc": "MFCC", "random": "random weights"}
COLUMNS = 3  # panels beside each other
SMALL = 25  # of more rows or columns, a heat map's labels are small


def model_name(model: str) -> str:
    """Name a model in a table or a legend."""
    return NAMES.get(model, model)


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """Give each model a colour: its own in `COLOURS`, or the next of those that are nobody's own."""
    names = list(dict.fromkeys(models))
    left = [colour for colour in LINES if colour not in {COLOURS[name] for name in names if name in COLOURS}]
    others = [name for name in names if name not in COLOURS]
    return {name: COLOURS.get(name) or left[others.index(name) % len(left)] for name in names}


def layer_panels(
    name: str,
    text: str,
    table: pl.DataFrame,
    *,
    value: str,
    axis: str,
    interval: tuple[str, str] | None = None,
    floor: str | None = None,
    panel: str = "label",
    colours: dict[str, str] | None = None,
) -> Drawing:
    """Draw a panel for each label, in which each model is a line over its layers.

    Args:
        name, text: the file's name, and what the figure shows.
        table: ``model``, ``layer``, ``panel``, ``value`` and the columns named below; rows in the order of legends.
        value: the column that is drawn, on an axis that says ``axis``.
        interval: the columns of its lower and upper bound, which are shaded.
        floor: the column of what there is by chance, dotted.
        panel: the column that has a value for each panel.
        colours: of models (default: `model_colours`).
    """
    panels = table[panel].unique(maintain_order=True).to_list()
    colours = colours or model_colours(table["model"])
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)

    def draw(figure: "Figure") -> None:
        plots = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for axes, shown in zip(plots, panels, strict=False):
            plot_layers(axes, table.filter(pl.col(panel) == shown), value, colours, interval, floor)
            axes.set(title=noun(str(shown)), xlabel="layer")
            axes.yaxis.set_tick_params(labelleft=True)
        for axes in plots[len(panels) :]:
            axes.set_axis_off()
        for axes in plots[::columns]:
            axes.set_ylabel(axis)
        lines = {line.get_label(): line for axes in plots for line in axes.get_lines()}
        lines = {label: line for label, line in lines.items() if not str(label).startswith("_")}
        figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=min(2 * columns + 1, 6))

    return Drawing(name, text, (max(3.9 * columns, 5.2), 3.1 * rows + 0.5), draw)


def plot_layers(
    axes: "Axes",
    table: pl.DataFrame,
    value: str,
    colours: dict[str, str],
    interval: tuple[str, str] | None = None,
    floor: str | None = None,
) -> None:
    """Draw one panel; see `layer_panels`."""
    from matplotlib.ticker import MaxNLocator

    for model in table["model"].unique(maintain_order=True).to_list():
        rows = table.filter(model=model).sort("layer")
        colour, label = colours[model], model_name(model)
        flat = model == ONE_LAYER
        layers = [0, 1] if flat else rows["layer"].to_list()
        found = {name: _floats(rows[name]) for name in (value, *(interval or ()), *([floor] if floor else ()))}
        if flat:
            found = {name: np.repeat(values[:1], 2) for name, values in found.items()}
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform()} if flat else {}
        marker = "" if flat else "o"
        axes.plot(layers, found[value], color=colour, label=label, marker=marker, markersize=3.5, **place)
        if interval:
            axes.fill_between(
                layers, found[interval[0]], found[interval[1]], color=colour, alpha=0.15, linewidth=0, **place
            )
        if floor:
            axes.plot(layers, found[floor], color=colour, linestyle=":", linewidth=1, **place)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def heat_map(
    axes: "Axes",
    values: Floats,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    legend: str,
    xlabel: str = "",
    ylabel: str = "",
    **colours: Any,
) -> None:
    """Draw a matrix (rows, columns) with a name for each and a colour bar that says ``legend``; NaN is grey.

    ``colours``: matplotlib's ``cmap``, ``vmin`` and ``vmax``.
    """
    image = axes.imshow(values, interpolation="nearest", aspect="auto", **{"cmap": "cividis", **colours})
    axes.set_facecolor("#dddddd")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    sizes = [9 if len(names) <= SMALL else 6 for names in (columns, rows)]
    long = max(map(len, columns)) > 2
    axes.set_xticks(range(len(columns)), columns, fontsize=sizes[0], rotation=90 if long else 0)
    axes.set_yticks(range(len(rows)), rows, fontsize=sizes[1])
    axes.grid(False)
    axes.figure.colorbar(image, ax=axes, shrink=0.85, label=legend)


def _floats(column: pl.Series) -> Floats:
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
