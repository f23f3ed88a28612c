"""Clusters: what they agree with by layer, what training makes of them, and how they would do as a recogniser."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from w2v_abx.analysis.analysis import AnalysisResult, read_result
from w2v_abx.report.analyses.alluvial import draw_alluvial
from w2v_abx.report.analyses.figures import heat_map, layer_panels, model_name
from w2v_abx.report.section import NONE, Drawing, Section, Table, number, percent
from w2v_abx.report.summary import Summary
from w2v_abx.statistics.verdict import noun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["render"]

SETTING = ["space", "method", "k"]
MEASURES = {
    "ami": "AMI",
    "v_measure": "V-measure",
    "homogeneity": "homogeneity (PNMI)",
    "completeness": "completeness",
    "mutual_information": "MI (nats)",
    "purity": "purity",
    "cluster_purity": "cluster purity",
}
CONVOLUTIONS = -1  # where layers are numbered
LEAST = 0.1  # of a cluster's frames, for a band to be drawn


def render(summary: Summary) -> Section | None:
    """Make the answer, figures by layer, the matrix and the alluvial figure, and the numbers folded."""
    result = read_result(summary.folder, "clusters")
    if result is None:
        return None
    models = pl.Enum(result.facts["models"])
    tables = {
        name: table.sort(pl.col("model").cast(models), maintain_order=True) for name, table in result.tables.items()
    }
    means = _means(tables["agreement"])
    setting = dict(zip(SETTING, means.select(SETTING).row(0), strict=True))
    main = {name: table.filter(**setting) for name, table in {**tables, "means": means}.items()}
    best = _best(main, setting)
    parts: list[Any] = [best, *_by_layer(main, setting), *_moved(main, result, setting)]
    return Section("Clusters", [*parts, *_folded(tables, means), " ".join(result.notes)], terminal=[best])


def _means(agreement: pl.DataFrame) -> pl.DataFrame:
    """Average over seeds; ``low`` and ``high`` are the extremes of the AMI, ``about`` the label in words."""
    blanks = pl.col("blanks").cast(pl.Boolean)
    words = (
        pl.when(blanks.is_null())
        .then(pl.lit(""))
        .when(blanks)
        .then(pl.lit(", with blanks"))
        .otherwise(pl.lit(", without blanks"))
    )
    table = agreement.with_columns((pl.col("label").str.strip_prefix("#") + words).alias("about"))
    return table.group_by(["model", "layer", *SETTING, "label", "about"], maintain_order=True).agg(
        pl.col("frames").first(),
        *(pl.col(name).mean() for name in MEASURES),
        pl.col("ami").min().alias("low"),
        pl.col("ami").max().alias("high"),
    )


def _best(main: dict[str, pl.DataFrame], setting: dict[str, Any]) -> Table:
    """Show each model where its clusters agree best with the first label, and what they would do as a recogniser."""
    means = main["means"]
    about = means["about"][0]
    rows = []
    for (model,), found in means.filter(about=about).group_by("model", maintain_order=True):
        row = found.sort("ami", descending=True, nulls_last=True).row(0, named=True)
        where = {"model": model, "layer": row["layer"]}
        read = main["decoding"].filter(**where, label=row["label"]) if "decoding" in main else pl.DataFrame()
        stable = main["stability"].filter(**where) if "stability" in main else pl.DataFrame()
        rows.append(
            [
                model_name(str(model)),
                _layer(row["layer"]),
                *(number(row[name], ".3f") for name in list(MEASURES)[:4]),
                percent(None if read.is_empty() else read["error_rate"][0]),
                number(None if stable.is_empty() else stable["ami"][0], ".3f"),
            ]
        )
    columns = ["model", "best layer", *list(MEASURES.values())[:4], "decoded, error %", "AMI between seeds"]
    note = f"Agreement of {_named(setting)} with {about}, 0 by chance (AMI) and 1 at most, mean over seeds."
    return Table(f"Where clusters agree best with {about}", columns, rows, note)


def _by_layer(main: dict[str, pl.DataFrame], setting: dict[str, Any]) -> list[Drawing]:
    text = f"Agreement of {_named(setting)} with labels by layer: AMI, mean and range over seeds."
    drawings = [
        layer_panels("clusters", text, main["means"], value="ami", axis="AMI", interval=("low", "high"), panel="about")
    ]
    if "decoding" in main and not main["decoding"].is_empty():
        text = (
            "Clusters read as a recogniser: each stands for its most frequent symbol, counted in the other half of the "
            "speakers; repeats are joined. Above 100 % there are more errors than symbols."
        )
        table = main["decoding"].with_columns(pl.col("error_rate") * 100)
        drawings.append(layer_panels("clusters_decoded", text, table, value="error_rate", axis="error (%)"))
    return [replace(drawing, draw=_conv(drawing)) for drawing in drawings]


def _conv(drawing: Drawing) -> Any:
    """Write on the axis of layers what -1 is."""

    def draw(figure: "Figure") -> None:
        drawing.draw(figure)
        for axes in figure.axes:
            axes.xaxis.set_major_formatter(lambda layer, _: "conv" if layer == CONVOLUTIONS else f"{layer:g}")

    return draw


def _moved(main: dict[str, pl.DataFrame], result: AnalysisResult, setting: dict[str, Any]) -> list[Any]:
    """Show what becomes of clusters from the first model to another, at the last layer."""
    if "moves" not in main:
        return []
    moves = main["moves"].filter(~pl.col("other").is_in(result.facts["baselines"]))
    between = moves.filter(pl.col("model") != pl.col("other"))
    found = []
    for row in (
        (between if not between.is_empty() else moves).sort("other_layer").group_by("other", maintain_order=True)
    ):
        last = row[1].row(-1, named=True)
        found.append(_change(main, last, setting))
    return [part for parts in found for part in parts]


def _change(main: dict[str, pl.DataFrame], row: dict[str, Any], setting: dict[str, Any]) -> list[Any]:
    """Say in a sentence how much moves between two models, and draw the matrix and the bands."""
    places = {name: row[name] for name in ("model", "layer", "other", "other_layer")}
    sides = ({"model": row["model"], "layer": row["layer"]}, {"model": row["other"], "layer": row["other_layer"]})
    titles = tuple(f"{model_name(side['model'])}, {_layer(side['layer'], 'layer ')}" for side in sides)
    flows = main["flows"].filter(**places)
    table = np.zeros((setting["k"], setting["k"]))
    table[flows["cluster"], flows["other_cluster"]] = flows["frames"]
    match = dict(flows.filter(pl.col("matched")).select("cluster", "other_cluster").iter_rows())
    label = main["names"]["label"][0]
    names = [_symbols(main["names"].filter(**side, label=label)) for side in sides]
    sentence = (
        f"From {titles[0]} to {titles[1]}, {percent(row['drift'])} % of the frames leave the cluster that is matched "
        f"with theirs; {row['splits']} of {setting['k']} clusters split and {row['merges']} are merged (a quarter of a "
        f"cluster's frames each); AMI {number(row['ami'], '.3f')}."
    )
    tag = f"{row['model']}_{row['other']}_{row['other_layer']}"
    drawn = (names[0], names[1])
    matrix = Drawing(
        f"clusters_matrix_{tag}",
        f"{sentence} Each cluster is named by its most frequent {noun(label)}; matched ones lie on the diagonal.",
        (7.4, 6.4),
        lambda figure: _matrix(figure, table, drawn, match, (titles[0], titles[1])),
    )
    bands = Drawing(
        f"clusters_alluvial_{tag}",
        f"Frames that stay in the matched cluster (blue) and that leave it (orange). Bands of less than "
        f"{LEAST:.0%} of the smaller cluster are not drawn.",
        (7.4, 9.0),
        lambda figure: draw_alluvial(figure.subplots(), table, drawn, (titles[0], titles[1]), match, LEAST),
    )
    return [sentence, bands, matrix]


def _symbols(names: pl.DataFrame) -> list[str]:
    return [symbol or NONE for symbol in names.sort("cluster")["symbol"]]


def _matrix(
    figure: "Figure",
    table: "np.ndarray[Any, Any]",
    names: tuple[list[str], list[str]],
    match: dict[int, int],
    titles: tuple[str, str],
) -> None:
    left = sorted(range(len(table)), key=lambda a: (names[0][a], a))
    right = [match[a] for a in left if a in match]
    right += [b for b in range(len(table)) if b not in right]
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    heat_map(
        figure.subplots(),
        shares[np.ix_(left, right)],
        [names[0][a] for a in left],
        [names[1][b] for b in right],
        legend="share of a row's frames",
        xlabel=titles[1],
        ylabel=titles[0],
        vmin=0,
        vmax=1,
    )


def _folded(tables: dict[str, pl.DataFrame], means: pl.DataFrame) -> list[Table]:
    """Tables of all numbers."""
    where = ["model", "layer", *SETTING]
    listed = [_table("Agreement of clusters with labels", means, [*where, "about", "frames", *MEASURES])]
    if "stability" in tables:
        columns = [*where, "pairs", "ami", "ami_lowest", "ari", "ari_lowest"]
        listed.append(_table("Stability of clusters over seeds", tables["stability"], columns))
    if "moves" in tables:
        columns = [*where, "other", "other_layer", "ami", "ari", "drift", "splits", "merges"]
        listed.append(_table("Clusters matched between models and layers", tables["moves"], columns))
    if "decoding" in tables:
        columns = [*where, "label", "error_rate", "hits", "substitutions", "deletions", "insertions"]
        listed.append(_table("Clusters, and heads, decoded", tables["decoding"], columns))
    return listed


def _table(title: str, table: pl.DataFrame, columns: Sequence[str]) -> Table:
    heads = [MEASURES.get(name, name.replace("_", " ")) for name in columns]
    rows = [[_cell(name, row[name]) for name in columns] for row in table.iter_rows(named=True)]
    return Table(title, heads, rows, folded=f"Numbers: {title.lower()}")


def _cell(name: str, value: Any) -> str:
    if name in ("layer", "other_layer"):
        return _layer(value)
    if isinstance(value, float):
        return number(value, ".3f")
    return NONE if value is None else model_name(str(value))


def _layer(layer: int | None, before: str = "") -> str:
    if layer is None:
        return NONE
    return "convolutions" if layer == CONVOLUTIONS else f"{before}{layer}"


def _named(setting: dict[str, Any]) -> str:
    method = {"kmeans": "k-means", "spherical": "spherical k-means"}[setting["method"]]
    space = "" if setting["space"] == "raw" else f" on {setting['space'].upper()}"
    return f"{setting['k']} clusters ({method}{space})"
