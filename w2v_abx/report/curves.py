"""What the heads' losses, metrics and weights were over training."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from w2v_abx.report.section import COLOURS, LINES, Drawing
from w2v_abx.report.summary import Summary, read_json, read_numbers
from w2v_abx.statistics.cells import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Logged", "compared", "of_head", "read"]

SMOOTHED = 20  # steps
POINTS = 40  # of fewer, each is marked
COLUMNS = 3  # plots beside each other
TITLE_WIDTH = 36  # characters of a plot's title in a line
PHASES = {"train": COLOURS["before"], "valid": COLOURS["after"]}

Curve = tuple[Floats, Floats]  # steps, values
Logged = Mapping[str, Mapping[tuple[str, str], Curve]]  # by head, then quantity and phase


def read(summary: Summary) -> Logged:
    """Read what each head of a run logged in ``metrics.csv``: ``PHASE/HEAD_QUANTITY``."""
    columns = read_numbers(summary.folder / "metrics.csv")
    steps = columns.get("step", np.array([]))
    configured = summary.config.get("objective", {}).get("heads", {})
    heads = {name for name, head in configured.items() if head is not None}
    heads |= {name for found in read_json(summary.folder / "head.json").values() for name in found}
    logged: dict[str, dict[tuple[str, str], Curve]] = {}
    for column, values in columns.items():
        phase, _, name = column.partition("/")
        there = np.isfinite(values) & np.isfinite(steps)
        owners = [head for head in heads if name.startswith(f"{head}_")]
        if phase in PHASES and owners and there.any():
            head = max(owners, key=len)  # "tones" and "tones_sex" may be heads of one run
            curve = _once(steps[there], values[there]) if phase == "valid" else (steps[there], values[there])
            logged.setdefault(head, {})[name.removeprefix(f"{head}_"), phase] = curve
    return logged


def of_head(logged: Logged, name: str, titles: Mapping[str, str]) -> list[Drawing]:
    """Draw the loss and the metrics of a head, which have ``titles``, in training and validation, as far as logged."""
    curves = {key: curve for key, curve in logged.get(name, {}).items() if key[0] != "weight"}
    quantities = sorted({quantity for quantity, _ in curves}, key=lambda quantity: (quantity != "loss", quantity))
    if not quantities:
        return []
    names = {quantity: titles.get(quantity, quantity.replace("_", " ")) for quantity in quantities}
    columns = min(COLUMNS, len(quantities))
    rows = -(-len(quantities) // columns)

    def draw(figure: "Figure") -> None:
        plots = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
        for axes in plots[len(quantities) :]:
            axes.set_axis_off()
        for axes, quantity in zip(plots, quantities, strict=False):
            for phase, colour in PHASES.items():
                if (quantity, phase) in curves:
                    _plot(axes, curves[quantity, phase], colour, phase)
            axes.set(title=textwrap.fill(names[quantity], TITLE_WIDTH), xlabel="step")
            axes.xaxis.set_tick_params(labelbottom=True)
            axes.legend()

    text = f'The head "{name}" over training: {", ".join(names.values())}.'
    if any(len(steps) >= POINTS for (_, phase), (steps, _) in curves.items() if phase == "train"):
        text += f" Pale: each step; line: mean of {SMOOTHED} points."
    return [Drawing(f"curves_{name}", text, (10.4 if columns > 1 else 6.4, 2.9 * rows + 0.2), draw)]


def compared(logged: Logged) -> list[Drawing]:
    """Draw how the losses of several heads fall beside each other, and the weights that training gave them."""
    losses = {name: _loss(curves) for name, curves in logged.items()}
    losses = {name: curve for name, curve in losses.items() if len(curve[0]) > 1 and curve[1][0] > 0}
    weights = {name: curves["weight", "train"] for name, curves in logged.items() if ("weight", "train") in curves}
    colours = dict(zip(logged, cycle(LINES)))
    plots = [losses] * (len(losses) > 1) + [weights] * bool(weights)
    if not plots:
        return []

    def draw(figure: "Figure") -> None:
        for axes, lines in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
            for name, (steps, values) in lines.items():
                shown = values / values[0] if lines is losses else values
                axes.plot(
                    steps, shown, "o-" if len(steps) < POINTS else "-", color=colours[name], label=name, markersize=4
                )
            title = "Convergence" if lines is losses else "Weights of the heads"
            label = "loss ÷ its first value" if lines is losses else "weight of the loss"
            axes.set(title=title, xlabel="step", ylabel=label, ylim=(0, None))
            axes.legend()

    texts = []
    if len(losses) > 1:
        texts.append(
            "Loss of each head in validation, divided by its first value; of a head that was validated once, the "
            "loss in training, smoothed."
        )
    if weights:
        texts.append("Weights: what each head's loss is multiplied by.")
    return [Drawing("heads", " ".join(texts), (10.4 if len(plots) > 1 else 6.4, 3.4), draw)]


def _once(steps: Floats, values: Floats) -> Curve:
    """Leave out the validation after training where it repeats that at the end of the last epoch."""
    again = len(steps) > 1 and steps[-1] - steps[-2] == 1 and values[-1] == values[-2]
    return (steps[:-1], values[:-1]) if again else (steps, values)


def _loss(curves: Mapping[tuple[str, str], Curve]) -> Curve:
    """The loss on validation clips, or in training where there are fewer than two such values."""
    nothing = np.array([]), np.array([])
    steps, values = curves.get(("loss", "valid"), nothing)
    if len(steps) > 1:
        return steps, values
    steps, values = curves.get(("loss", "train"), nothing)
    return steps, _smooth(values)


def _smooth(values: Sequence[float] | Floats) -> Floats:
    smooth: Floats = pl.Series(values, dtype=pl.Float64).rolling_mean(SMOOTHED, min_samples=1, center=True).to_numpy()
    return smooth


def _plot(axes: "Axes", curve: Curve, colour: str, label: str) -> None:
    """Draw a curve; of training steps, which are many and noisy, a mean, too."""
    steps, values = curve
    if len(steps) < POINTS:
        axes.plot(steps, values, "o-", color=colour, label=label, markersize=4)
    elif label == "train":
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(steps, _smooth(values), color=colour, label=label)
    else:
        axes.plot(steps, values, color=colour, label=label)
