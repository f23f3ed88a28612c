"""The loss of a training, its temperature and its micro-batches."""

from collections.abc import Mapping
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from w2v_abx.report.section import COLOURS, LINES, Drawing, Section, gap
from w2v_abx.report.summary import Summary, read_numbers
from w2v_abx.statistics.cells import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["render"]

PLOTS = {  # title, label, height in inches
    "loss": ("Loss", "loss", 3.0),
    "temperature": ("Temperature", "°C", 2.2),
    "microbatch": ("Micro-batch", "clips", 1.3),
}


def render(summary: Summary) -> Section | None:
    """Losses are shown over minutes where thermal.csv gives the time of a step."""
    if summary.command != "train":
        return None
    logs = [summary.folder / "metrics.csv", summary.folder / "thermal.csv"]
    metrics, thermal = map(read_numbers, logs)
    minutes = thermal.get("time", np.array([])) / 60
    passed = thermal.get("step", np.full(len(minutes), np.nan))
    known = np.isfinite(minutes) & np.isfinite(passed)
    timed = bool(known.sum() > 1)
    losses: dict[str, tuple[Floats, Floats]] = {}
    for name in ("train/loss", "valid/loss"):
        values = metrics.get(name, np.array([]))
        if "step" in metrics and np.isfinite(values).any():
            there = np.isfinite(values) & np.isfinite(metrics["step"])
            steps = metrics["step"][there]
            losses[name] = np.interp(steps, passed[known], minutes[known]) if timed else steps, values[there]
    names = [name for name in ("temperature", "microbatch") if len(minutes) and name in thermal]
    of_time: dict[str, Floats] = {name: thermal[name] for name in names if np.isfinite(thermal[name]).any()}
    missing = []
    for path, why, log, what, shown in (
        (logs[0], "The loss was not logged", metrics, "loss", losses),
        (logs[1], "Temperature was not watched", thermal, "temperature", of_time),
    ):
        if not log:
            missing.append(gap(path, why, "has no rows"))
        elif not any(name.endswith(what) for name in shown):
            missing.append(f"{path.name} holds no {what}.")
    parts: list[Drawing | str] = [" ".join(missing)] if missing else []
    if plots := ["loss"] * bool(losses) + list(of_time):
        text = f"{', '.join(PLOTS[plot][0] for plot in plots).capitalize()} over training."
        size = (10.4, sum(PLOTS[plot][2] for plot in plots) + 0.5)
        parts.insert(0, Drawing("training", text, size, partial(_draw, losses, of_time, minutes, timed)))
    return Section("Training", parts)


def _draw(
    losses: Mapping[str, tuple[Floats, Floats]],
    of_time: Mapping[str, Floats],
    minutes: Floats,
    timed: bool,
    figure: "Figure",
) -> None:
    from matplotlib.ticker import MaxNLocator

    plots = ["loss"] * bool(losses) + list(of_time)
    heights = [PLOTS[plot][2] for plot in plots]
    column = figure.subplots(len(plots), 1, sharex=timed, squeeze=False, height_ratios=heights)[:, 0]
    for axes, plot in zip(column, plots, strict=True):
        axes.set(title=PLOTS[plot][0], ylabel=PLOTS[plot][1])
        if plot == "loss":
            for colour, (label, (x, values)) in zip(cycle(LINES), losses.items()):
                axes.plot(x, values, "o-" if len(x) < 40 else "-", color=colour, label=label, markersize=4)
            axes.set_xlabel("" if timed else "step")
            axes.legend()
        elif plot == "temperature":
            axes.plot(minutes, of_time[plot], color=COLOURS["after"])
        else:
            axes.step(minutes, of_time[plot], where="post", color=COLOURS["before"])
            axes.set_ylim(0, None)
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    if timed or of_time:
        column[-1].set_xlabel("minutes of training")
