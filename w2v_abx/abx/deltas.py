"""Delta values: by how much B lies farther from X than A does, over the triplets of a task."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.abx import counting
from w2v_abx.abx.cells import Cells
from w2v_abx.errors import InputError

__all__ = ["SAMPLE", "DeltaSummary", "Triplets", "draw_triplets", "summarise"]

BINS = 128
SAMPLE = 100_000  # triplets, unless another number is asked for
MOST_TRIPLETS = 1 << 26  # some 4 GiB of positions and delta values


@dataclass(frozen=True)
class DeltaSummary:
    """Delta values d(B, X) − d(A, X) of a task: above zero where the choice is right.

    ``mean`` and ``std`` are over all triplets, exactly. The ``scale_free`` values are divided by ``distance_mean``, the
    mean over the same triplets of (d(A, X) + d(B, X)) / 2: a model that merely shrinks its space shrinks the raw
    values and leaves these. The histograms are of a seeded sample of the triplets; zero is an edge of theirs, and their
    range is a power of two on either side, so that those of two models can be laid over each other.
    """

    mean: float
    std: float
    scale_free_mean: float
    scale_free_std: float
    distance_mean: float
    edges: list[float]
    counts: list[int]
    scale_free_edges: list[float]
    scale_free_counts: list[int]


@dataclass(frozen=True)
class Triplets:
    """Triplets of cells: (S,) cell numbers, ascending, and (3, S) the places of A, B and X in their groups."""

    cell: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]


def draw_triplets(cells: Cells, seed: int, most: int | None = SAMPLE) -> Triplets:
    """Draw ``most`` triplets of all, each as likely as any other; all, once each, for None or if fewer exist.

    Raises:
        InputError: these are too many to hold.
    """
    ends = np.cumsum(cells.size)
    total = int(ends[-1])
    if total > MOST_TRIPLETS < (most or total):
        raise InputError(
            f"abx.deltas={'null' if most is None else most} asks for more than {MOST_TRIPLETS:,} of {total:,} "
            f"triplets, more than can be held: give a smaller number"
        )
    drawn = (
        np.arange(total)
        if most is None or total <= most
        else np.sort(np.random.default_rng(seed).integers(total, size=most))
    )
    cell = np.searchsorted(ends, drawn, side="right")
    number = drawn - (ends - cells.size)[cell]
    if cells.constraints is not None:
        return Triplets(cell, counting.find(cells.starts, cells.groups, cells.constraints, cell, number))
    a_group, b_group, x_group = cells.groups[:, cell]
    sizes = np.diff(cells.starts)
    same = a_group == x_group
    number, b = np.divmod(number, sizes[b_group])
    x, a = np.divmod(number, sizes[a_group] - same)
    return Triplets(cell, np.stack([a + (same & (a >= x)), b, x]))


def summarise(cells: pl.DataFrame, sample: npt.NDArray[np.float32]) -> DeltaSummary:
    """The delta values of scored cells: moments from their sums, histograms from the deltas of sampled triplets."""
    size = cells["size"].to_numpy()
    total = float(size.sum())
    mean = float(cells["delta_sum"].to_numpy().sum()) / total
    variance = float(cells["delta_square_sum"].to_numpy().sum()) / total - mean**2
    std = max(variance, 0.0) ** 0.5
    distance = float((cells["distance_mean"].to_numpy() * size).sum()) / total
    scale = 1 / distance if distance > 0 else 0.0  # All distances zero: all deltas are.
    edges, counts = _histogram(sample)
    free_edges, free_counts = _histogram(sample * scale)
    return DeltaSummary(mean, std, mean * scale, std * scale, distance, edges, counts, free_edges, free_counts)


def _histogram(values: npt.NDArray[np.floating]) -> tuple[list[float], list[int]]:
    largest = float(np.abs(values).max())
    limit = 2.0 ** np.ceil(np.log2(largest)) if largest > 0 else 1.0
    counts, edges = np.histogram(values, bins=BINS, range=(-limit, limit))
    return edges.tolist(), counts.tolist()
