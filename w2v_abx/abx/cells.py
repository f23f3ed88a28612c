"""The cells of a task: which groups of items play A, B and X together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.abx import counting
from w2v_abx.abx.constraints import Constraints, encode
from w2v_abx.abx.task import Task
from w2v_abx.errors import InputError
from w2v_abx.items.items import Items
from w2v_abx.system.checks import whole

__all__ = ["Cells", "build_cells"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """The cells of a task over a set of items.

    A *group* is the items that share ON, BY and ACROSS. Only groups that some cell needs are kept. Those that share BY
    are numbered one after another, and a cell is three group numbers.

    Attributes:
        items: row numbers in the item table, group by group (G groups, N items).
        starts: (G + 1,) where each group begins in ``items``.
        by: (G,) the number of each group's BY values, ascending.
        groups: (3, C) the groups of A, B and X of each cell.
        frame: C rows: ON, BY…, ACROSS…, ON ``_b`` and ACROSS ``_x`` of each cell, in lexicographic order.
        size: (C,) the number of triplets of each cell.
        constraints: what they must fulfil, over the items in the order of ``items``; or None.
    """

    items: Integers
    starts: Integers
    by: Integers
    groups: Integers
    frame: pl.DataFrame
    size: Integers
    constraints: Constraints | None = None


def build_cells(
    items: Items,
    rows: Integers,
    task: Task,
    *,
    max_size_group: int | None = None,
    max_x_across: int | None = None,
    seed: int = 0,
) -> Cells:
    """Build the cells of ``task`` over the items at ``rows``.

    ``max_size_group`` keeps that many items of each group, drawn with ``seed``: the same ones wherever the group
    plays A, B or X. ``max_x_across`` keeps that many ACROSS values of X for each (A, B) pair. Both as in fastabx.

    Raises:
        InputError: the items lack a column, a cap is too small, or no cell can be formed (the message says why).
    """
    task.check(items.labels)
    whole("max_size_group", max_size_group, 2, optional="for no limit")
    whole("max_x_across", max_x_across, 1, optional="for no limit")
    if not len(rows):
        raise InputError("No item has a frame: the items are too short for the frequency, or it is not the features'.")
    rng = np.random.default_rng(seed)
    labels = items.frame.select(task.columns)[rows]
    codes = labels.select(
        pl.col(task.on).rank("dense").alias("on"),
        _code(task.by).alias("by"),
        _code(task.across).alias("across"),
        *(pl.col(name).rank("dense").alias(f"across {name}") for name in task.across),
    ).with_columns(group=pl.struct("by", "across", "on").rank("dense").cast(pl.Int64) - 1)
    group_of = codes["group"].to_numpy()
    order = np.argsort(group_of, kind="stable")
    if max_size_group is not None:
        # One number per item of the table, so that leaving an item out does not redraw all the others.
        drawn = codes.with_columns(draw=rng.random(len(items))[rows]).select(
            pl.col("draw").rank("ordinal").over("group")
        )
        order = order[drawn["draw"].to_numpy()[order] <= max_size_group]
    sizes = np.bincount(group_of[order])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    member = order[starts[:-1]]

    groups = codes[member].with_columns(size=sizes)
    partners = groups.select("by", "across", on_b="on", b="group")
    cells = groups.join(partners, on=["by", "across"]).filter(pl.col("on") != pl.col("on_b"))
    if task.across:
        differ = [f"across {name}" for name in task.across]
        others = groups.select("by", "on", pl.col("across", *differ).name.suffix("_x"), x="group")
        cells = cells.join(others, on=["by", "on"]).filter(pl.col(name) != pl.col(f"{name}_x") for name in differ)
        if max_x_across is not None:
            cells = cells.sort("group", "b", "x").with_columns(draw=rng.random(cells.height))
            cells = cells.filter(pl.col("draw").rank("ordinal").over("group", "b") <= max_x_across)
    else:
        cells = cells.filter(pl.col("size") >= 2).with_columns(across_x="across", x="group")
    if not cells.height:
        raise InputError(_why_empty(task, groups["on"].n_unique()))
    roles = np.stack([cells[name].to_numpy() for name in ("group", "b", "x")])
    # In the order of the labels: groups are numbered by BY, then ACROSS, then ON, and codes are in the labels' order.
    place = groups.select(pl.struct("on", "by", "across").rank("dense")).to_series().to_numpy()
    roles = roles[:, np.lexsort((roles[2], roles[1], place[roles[0]]))]
    size = sizes[roles[0]] * sizes[roles[1]] * (sizes[roles[2]] if task.across else sizes[roles[0]] - 1)
    constraints = None
    if task.constraints:
        constraints = encode(task.comparisons(), items.frame[rows[order]])
        size = counting.valid(starts, roles, constraints)
        if not size.any():
            raise InputError(
                f"No triplet ON {task.on} fulfils the constraints {', '.join(task.constraints)}; loosen them."
            )
        roles, size = roles[:, size > 0], size[size > 0]
    labels = labels[member]
    frame = pl.DataFrame(
        [labels[name].gather(roles[0]) for name in task.columns]
        + [labels[task.on].gather(roles[1]).alias(f"{task.on}_b")]
        + [labels[name].gather(roles[2]).alias(f"{name}_x") for name in task.across]
    )
    used = np.zeros(len(member), dtype=bool)
    used[roles] = True
    kept = np.repeat(used, sizes)
    return Cells(
        items=rows[order[kept]],
        starts=np.concatenate([[0], np.cumsum(sizes[used])]),
        by=np.unique(groups["by"].to_numpy()[used], return_inverse=True)[1],
        groups=(np.cumsum(used) - 1)[roles],
        frame=frame,
        size=size,
        constraints=None if constraints is None else constraints._replace(codes=constraints.codes[:, kept]),
    )


def _code(names: Sequence[str]) -> pl.Expr:
    """One number for each combination of the values of some columns, in their order; zero without columns."""
    return pl.struct(names).rank("dense") if names else pl.lit(0, pl.UInt32)


def _why_empty(task: Task, on_values: int) -> str:
    start = f"No cell can be formed ON {task.on}"
    if on_values < 2:
        return f"{start}: the items have a single value in that column, and two are needed."
    same = ", ".join((*task.by, *task.across))
    if task.across:
        need = f"two values of {task.on} that share {same}, one of them also found with another {task.across[0]}"
    else:
        need = f"two values of {task.on}{f' that share {same}' if same else ''}, one of them with two items"
    return f"{start}: that needs {need}, and the items have no such case; use another BY or ACROSS, or more items."
