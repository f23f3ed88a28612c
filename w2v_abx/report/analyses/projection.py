"""The same points in a plane, model beside model, and how often near ones are of one class."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.analysis.analysis import AnalysisResult, read_result
from w2v_abx.analysis.planes.page import square
from w2v_abx.analysis.points import NONE
from w2v_abx.report.analyses.figures import model_name
from w2v_abx.report.section import Drawing, Section, Table, number, percent
from w2v_abx.report.summary import Summary
from w2v_abx.statistics.cells import Floats
from w2v_abx.statistics.verdict import noun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["render"]

Strings = npt.NDArray[np.str_]

NAMES = {"pca": "principal components", "umap": "UMAP"}
# As on the page: classes differ in colour, and where there are more, in shape.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#8064D6")
MARKERS = "o^sDPv"
MOST = 32  # classes that a legend has room for
SIDE = 2.7  # inches of a panel
FAINT = "#d8d8d8"


def render(summary: Summary) -> Section | None:
    """Make the table of near points and a figure for each method, at one layer; all of them folded."""
    result = read_result(summary.folder, "projection")
    if result is None:
        return None
    layer = _layer(summary, result)
    figures = [
        Drawing(
            f"projection_{method}", _text(method, layer, result), _size(result), partial(_draw, result, method, layer)
        )
        for method in result.tables["coordinates"]["method"].unique(maintain_order=True)
    ]
    page = "analysis/projection/points.html in the run's folder shows every layer, and says of each point what it is."
    answer = _agreement(result, layer)
    return Section(
        "Projection", [answer, *figures, f"{page} {' '.join(result.notes)}", *_folded(result)], terminal=[answer]
    )


def _layer(summary: Summary, result: AnalysisResult) -> int:
    """Choose the layer of the verdict, or else the last."""
    known = result.tables["coordinates"]["layer"]
    decisive = summary.decisive
    return decisive[0] if decisive and decisive[0] in known else int(known.max())  # type: ignore[arg-type]


def _at(table: pl.DataFrame, layer: int) -> pl.DataFrame:
    """Take the rows of a layer; of a model with a single one, those of that."""
    single = pl.col("layer").n_unique().over("model") == 1
    return table.filter((pl.col("layer") == layer) | single)


def _agreement(result: AnalysisResult, layer: int) -> Table:
    found = _at(result.tables["neighbours"], layer).filter(method="all")
    models = found["model"].unique(maintain_order=True).to_list()
    rows = []
    for (label,), of_label in found.group_by("label", maintain_order=True):
        shares = dict(of_label.select("model", "share").iter_rows())
        chance = percent(of_label["chance"][0])
        rows.append([noun(str(label)), *(percent(shares.get(model)) for model in models), chance])
    note = (
        f"Of the ten nearest points in other files, by {result.facts['metric']} distance in all dimensions, "
        f"those of the same class, at layer {layer}; by chance: of points drawn at random."
    )
    title = "Near points of one class (%)"
    return Table(title, ["label", *map(model_name, models), "by chance"], rows, note)


def _folded(result: AnalysisResult) -> list[Table]:
    agreements = [
        [
            model_name(model),
            str(layer),
            {"all": "all dimensions", **NAMES}[method],
            noun(label),
            percent(share),
            percent(chance),
        ]
        for model, method, label, layer, share, chance in result.tables["neighbours"]
        .select("model", "method", "label", "layer", "share", "chance")
        .rows()
    ]
    columns = ["model", "layer", "in", "label", "share (%)", "by chance (%)"]
    spreads = [
        [model_name(model), str(layer), number(spread, ".3g"), number(shift, ".2f"), percent(shown)]
        for model, layer, spread, shift, shown in result.tables["spreads"].rows()
    ]
    note = (
        "Spread: root of the mean squared distance from the mean. Shift: distance of the mean from that of the first "
        "model with the same axes, in spreads of that one; figures do not show it. Variance: share of it in the plane."
    )
    return [
        Table("Near points of one class", columns, agreements, folded="Near points of one class, by layer and plane"),
        Table(
            "Spreads",
            ["model", "layer", "spread", "shift", "variance (%)"],
            spreads,
            note,
            folded="What the planes show",
        ),
    ]


def _text(method: str, layer: int, result: AnalysisResult) -> str:
    return f"Layer {layer} (MFCC: its only one) by {NAMES[method]}. Each dot is one of the {result.facts['level']}."


def _colourings(result: AnalysisResult) -> dict[str, pl.Series]:
    """Give each point's class by label, and what each model's heads made of it."""
    points = result.tables["points"]
    found = {noun(label): points[label] for label in result.facts["labels"]}
    for (model, head), rows in result.tables["errors"].group_by("model", "head", maintain_order=True):
        found[f"{head}, by {model_name(str(model))}"] = rows.sort("point")["outcome"]
    return found


def _size(result: AnalysisResult) -> tuple[float, float]:
    models = result.tables["coordinates"]["model"].n_unique()
    return SIDE * models + 2.2, (SIDE + 0.25) * len(_colourings(result)) + 0.3


def _draw(result: AnalysisResult, method: str, layer: int, figure: "Figure") -> None:
    """Draw a row for each colouring, and a column for each model."""
    places = _at(result.tables["coordinates"], layer).filter(method=method)
    models = places["model"].unique(maintain_order=True).to_list()
    colourings = _colourings(result)
    squares = {
        name: square(places.filter(pl.col("model").is_in(members)))
        for members in result.facts["axes"]
        for name in members
    }
    plots = figure.subplots(len(colourings), len(models), squeeze=False)
    for row, (name, values) in zip(plots, colourings.items(), strict=True):
        classes = sorted(set(values) - set(NONE))
        for axes, model in zip(row, models, strict=True):
            xy = places.filter(model=model).sort("point").select("x", "y").to_numpy()
            _scatter(axes, xy, values.to_numpy().astype(str), classes)
            x, y, half = squares[model]
            half *= 1.04
            axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[], aspect="equal")
            axes.spines[:].set_visible(True)
        row[0].set_ylabel(name)
        if len(classes) <= MOST:
            small = 7 if len(classes) > 10 else 9
            row[-1].legend(
                handles=_key(classes), loc="center left", bbox_to_anchor=(1, 0.5), fontsize=small,
                ncols=1 + (len(classes) > 16), handletextpad=0.1, columnspacing=0.5, labelspacing=0.2,
            )  # fmt: skip
    for axes, model in zip(plots[0], models, strict=True):
        axes.set_title(model_name(model))


def _scatter(axes: "Axes", xy: Floats, values: Strings, classes: Sequence[str]) -> None:
    """Draw points by class, those of none first and faint; in their own order, lest the last class hide the others."""
    codes = np.full(len(values), -1)
    for code, name in enumerate(classes):
        codes[values == name] = code
    style: dict[str, Any] = {"s": 5, "linewidths": 0, "alpha": 0.8, "rasterized": True}
    none = xy[codes < 0]
    axes.scatter(none[:, 0], none[:, 1], color=FAINT, **style)
    for shape, marker in enumerate(MARKERS):
        chosen = (codes >= 0) & (codes // len(HUES) % len(MARKERS) == shape)
        colours = [HUES[code % len(HUES)] for code in codes[chosen]]
        axes.scatter(xy[chosen, 0], xy[chosen, 1], c=colours, marker=marker, **style)


def _key(classes: Sequence[str]) -> list["Line2D"]:
    """Make the signs of classes for a legend."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], linestyle="", markersize=5, label=name, color=HUES[code % len(HUES)],
            marker=MARKERS[code // len(HUES) % len(MARKERS)],
        )
        for code, name in enumerate(classes)
    ]  # fmt: skip
