"""What becomes of groups, as bands between two columns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_alluvial", "ordered"]

Floats = npt.NDArray[np.float64]

WIDTH = 0.03  # of a column, of the distance between them
GAP = 0.5  # of the height, between groups
CURVE = np.linspace(0, 1, 40)
SMOOTH = CURVE**2 * (3 - 2 * CURVE)
STAYS, LEAVES = "#0072B2", "#E69F00"


def ordered(flows: Floats, names: tuple[list[str], list[str]], match: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Order the groups of the first column by their names, and those of the second beside what is matched with them."""
    left = sorted(range(len(flows)), key=lambda a: (names[0][a], -flows[a].sum()))
    beside = {match[a]: position for position, a in enumerate(left) if a in match}
    # A group that nothing is matched with lies where most of its points come from.
    places = np.array([left.index(a) for a in range(len(left))], dtype=np.float64)
    totals = np.maximum(flows.sum(0), 1)
    means = (flows * places[:, None]).sum(0) / totals
    right = sorted(range(flows.shape[1]), key=lambda b: (float(beside.get(b, means[b])), b))
    return left, right


def draw_alluvial(
    axes: "Axes",
    flows: Floats,
    names: tuple[list[str], list[str]],
    titles: tuple[str, str],
    match: Mapping[int, int],
    least: float,
) -> None:
    """Draw a band for each pair of groups that share points, as wide as they are many.

    Args:
        flows: (A, B) points.
        names: of the groups of both columns.
        titles: of the columns.
        match: the group of the second column that one of the first is matched with; its band is blue.
        least: of both groups' points: a pair that shares less of either is not drawn.
    """
    total = flows.sum()
    columns = ordered(flows, names, match)
    sides = []
    for x, groups, sizes, shown in zip((0, 1), columns, (flows.sum(1), flows.sum(0)), names, strict=True):
        bottoms, top = {}, 1 + GAP
        for group in groups:
            height = sizes[group] / total
            top -= height
            bottoms[group] = top
            axes.bar(x, height, WIDTH, top, color="#444444")
            beside, side = (x + WIDTH, "left") if x else (x - WIDTH, "right")
            axes.text(beside, top + height / 2, shown[group], ha=side, va="center", fontsize=7)
            top -= GAP / max(len(groups) - 1, 1)
        sides.append(bottoms)
    lower, upper = sides
    for a in reversed(columns[0]):
        for b in reversed(columns[1]):
            width = flows[a, b] / total
            if flows[a, b] >= least * min(flows[a].sum(), flows[:, b].sum()) and width:
                band = lower[a] + (upper[b] - lower[a]) * SMOOTH
                across = WIDTH / 2 + (1 - WIDTH) * CURVE
                stays = match.get(a) == b
                colour, alpha = (STAYS, 0.6) if stays else (LEAVES, 0.45)
                axes.fill_between(across, band, band + width, color=colour, alpha=alpha, linewidth=0)
            lower[a] += width
            upper[b] += width
    axes.set_xticks((0, 1), titles)
    axes.set(xlim=(-0.25, 1.25), ylim=(-0.01, 1.01 + GAP))
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
