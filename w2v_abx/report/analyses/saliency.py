"""What decisions rest on: attributions over the spectrogram, model beside model, and the check with random weights."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from w2v_abx.analysis.analysis import AnalysisResult, read_result
from w2v_abx.report.analyses.figures import model_name
from w2v_abx.report.section import COLOURS, Drawing, Section, Table, number
from w2v_abx.report.summary import Summary
from w2v_abx.statistics.cells import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["render"]

SHOWN = 1.0  # seconds around the item
WIDTH = 4.6  # inches of a panel
FAINTEST = 99.0  # percentile of the attributions' size from which colour is full
TICKS = (250, 500, 1000, 2000, 4000, 8000)  # Hz


def render(summary: Summary) -> Section | None:
    """Make the table of the check, a figure for each decision, and the numbers of the decisions folded."""
    result = read_result(summary.folder, "saliency")
    if result is None:
        return None
    rows = result.tables["decisions"]
    figures = [
        Drawing(f"saliency_{number_}", _text(chosen), (WIDTH * len(chosen) + 0.6, 4.6), partial(_draw, result, number_))
        for (number_,), chosen in rows.group_by("decision", maintain_order=True)
    ]
    check = _check(result)
    return Section("Saliency", [check, *figures, " ".join(result.notes), _decisions(rows)], terminal=[check])


def _check(result: AnalysisResult) -> Table:
    """Give the mean over decisions of how alike maps are before and after weights are randomised."""
    kinds = ("signed", "unsigned", "attention")
    means = result.tables["sanity"].group_by("random", maintain_order=True).agg(pl.col(*kinds).mean())
    rows = [[row["random"], *(number(row[kind], ".2f") for kind in kinds)] for row in means.iter_rows(named=True)]
    note = (
        f"Spearman's rank correlation of the maps of {model_name(result.facts['of'])} with those after its weights are "
        "randomised from the top down (Adebayo et al., 2018), mean over decisions. A map that says something of the "
        "model changes: far from 1. Without sign, maps stay alike in that both are large where there is sound."
    )
    columns = ["random", "gradients", "gradients, without sign", "attention"]
    return Table("Are the maps of this model? (1: the same with random weights)", columns, rows, note)


def _decisions(rows: pl.DataFrame) -> Table:
    columns = [
        "decision",
        "model",
        "head of",
        "file",
        "from (s)",
        "to (s)",
        "p",
        "p of noise",
        "change of log p",
        "not attributed",
        "loudness",
    ]
    cells = [
        [
            row["class"], model_name(row["model"]), model_name(row["reader"]), row["file"], f"{row['onset']:.3f}",
            f"{row['offset']:.3f}", number(np.exp(row["end"]), ".3f"), number(np.exp(row["start"]), ".3f"),
            number(row["end"] - row["start"], "+.2f"), number(row["gap"], ".3f"), number(row["loudness"], ".2f"),
        ]
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip
    note = (
        "p: probability of the decision, the geometric mean over its frames. Change: from noise to the "
        "utterance, to which the attributions should sum; not attributed: how far they are from it. Loudness: rank "
        "correlation of the size of attributions with the level of the sound."
    )
    return Table("Decisions", columns, cells, note, folded="Numbers of the decisions")


def _text(chosen: pl.DataFrame) -> str:
    row = chosen.row(0, named=True)
    when = f"{row['onset']:.2f} to {row['offset']:.2f} s" if row["at"] is None else f"{row['at']:.2f} s"
    return (
        f"{row['class']} in {row['file']}, {when}. Over the spectrogram: what speaks for it (red) and against it "
        "(blue), on one scale for all models. Below: summed over bands, and attention roll-out."
    )


def _draw(result: AnalysisResult, decision: int, figure: "Figure") -> None:
    rows = result.tables["decisions"].filter(decision=decision)
    bands, frames = (result.tables[name].filter(decision=decision) for name in ("bands", "frames"))
    edges = result.tables["edges"].select((pl.col("low") * pl.col("high")).sqrt()).to_series().to_numpy()
    full = float(np.percentile(bands["value"].abs().to_numpy(), FAINTEST)) or 1.0
    plots = figure.subplots(2, len(rows), squeeze=False, sharex=True, sharey="row", height_ratios=[2, 1])
    for (above, below), row in zip(plots.T, rows.iter_rows(named=True), strict=True):
        own = bands.filter(model=row["model"])
        values, level = (own[name].to_numpy().reshape(-1, len(edges)).T for name in ("value", "level"))
        times = own["time"].unique().sort().to_numpy()
        _over_spectrogram(above, values / full, level, times)
        above.set(title=f"{model_name(row['model'])}: p = {np.exp(row['end']):.2f}")
        above.set_yticks(np.interp(TICKS, edges, np.arange(len(edges))), [f"{tick:g}" for tick in TICKS])
        _over_time(below, times, values.sum(axis=0), frames.filter(model=row["model"]))
        _mark(above, below, row, times[-1])
    plots[0, 0].set_ylabel("Hz")
    plots[1, 0].set_ylabel("log-probability")
    figure.legend(*plots[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def _over_spectrogram(axes: "Axes", values: Floats, level: Floats, times: Floats) -> None:
    """Draw attributions (bands, frames), 1 the fullest, over the level in dB."""
    from matplotlib import colormaps

    step = times[1] - times[0]
    place: dict[str, Any] = {
        "origin": "lower",
        "aspect": "auto",
        "extent": (-step / 2, times[-1] + step / 2, -0.5, len(level) - 0.5),
    }
    axes.imshow(level, cmap="Greys", vmin=-60, vmax=10, interpolation="nearest", **place)
    colours = colormaps["RdBu_r"](np.clip(values, -1, 1) / 2 + 0.5)
    colours[..., 3] = np.clip(np.abs(values), 0, 1) ** 0.5
    axes.imshow(colours, interpolation="nearest", **place)
    axes.grid(False)


def _over_time(axes: "Axes", times: Floats, values: Floats, frames: pl.DataFrame) -> None:
    axes.plot(times, values, color=COLOURS["after"], linewidth=1.2, label="gradients")
    axes.axhline(0, color="#999999", linewidth=0.6)
    attention = frames["attention"].to_numpy()
    scaled = attention / attention.max() * np.abs(values).max()
    axes.plot(frames["time"], scaled, color=COLOURS["before"], linewidth=1, linestyle="--", label="attention (scaled)")
    axes.set(xlabel="s")


def _mark(above: "Axes", below: "Axes", row: Mapping[str, Any], end: float) -> None:
    """Mark what is decided on, and show what is around it."""
    spans = [row["onset"], row["offset"]] if row["at"] is None else [row["at"]]
    for axes in (above, below):
        for time in spans:
            axes.axvline(time, color="black", linewidth=0.9, linestyle=":")
        axes.set_xlim(max(0.0, row["onset"] - SHOWN), min(end, row["offset"] + SHOWN))
