"""From the errors of cells to one number."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError

__all__ = ["average_error", "collapse"]

Levels = Sequence[str | Sequence[str]]


def collapse(cells: pl.DataFrame, on: str, levels: Levels) -> pl.DataFrame:
    """Average errors over one level after another, as ZeroSpeech 2021 and fastabx do.

    A level is a column of BY or ACROSS, or several at once. Averaging over it joins the cells that differ in nothing
    else; the ACROSS values of X are never told apart. Cells weigh the same, whatever their size.

    Args:
        cells: scored cells: ON, BY…, ACROSS…, ON ``_b``, ACROSS ``_x``, ``score``, ``size``.
        on: the ON column.
        levels: from the first to average over to the last.

    Returns:
        One row for each combination of the labels that are left, sorted, with the mean ``score`` and the ``size``.

    Raises:
        InputError: a level is not a column of the cells, or comes twice.
    """
    labels = cells.columns[: cells.columns.index(f"{on}_b")][1:]
    steps = [[level] if isinstance(level, str) else list(level) for level in levels]
    named = [name for step in steps for name in step]
    for name in named:
        if name not in labels:
            raise InputError(f"'{name}' cannot be a level of the average: it is not one of {', '.join(labels)}.")
        if named.count(name) > 1:
            raise InputError(f"The level '{name}' is named twice.")
    keys = [on, f"{on}_b", *labels]
    groups = cells.select(keys)
    score, size = cells["score"].to_numpy(), cells["size"].to_numpy()
    for step in steps:
        keys = [name for name in keys if name not in step]
        first, member = _groups(groups.select(keys))
        # bincount adds in the order of the rows, so that the mean is the same to the last bit on any machine.
        score = np.bincount(member, weights=score) / np.bincount(member)
        size = np.bincount(member, weights=size).astype(np.int64)
        groups = groups.select(keys)[first]
    return groups.with_columns(score=pl.Series(score), size=pl.Series(size)).sort(keys, maintain_order=True)


def average_error(cells: pl.DataFrame, on: str, levels: Levels, *, weighted: bool = False) -> float:
    """The error of a task: averaged over ``levels``, then over ON pairs; or over triplets, when ``weighted``."""
    if weighted:
        size = cells["size"].to_numpy()
        return float((cells["score"].to_numpy() * size).sum() / size.sum())
    return float(collapse(cells, on, levels)["score"].to_numpy().mean())


def _groups(keys: pl.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First row of each distinct row, and the number of the distinct row that each row is."""
    codes = keys.select(pl.struct(pl.all()).rank("dense")).to_series().to_numpy()
    return np.unique(codes, return_index=True, return_inverse=True)[1:]
