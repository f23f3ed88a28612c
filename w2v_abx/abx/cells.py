"""The cells of a task: which groups of items play A, B and X together."""

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
    columns = {
        name: items.frame[name].gather(rows).rank("dense").to_numpy().astype(np.int64) - 1 for name in task.columns
    }
    on = columns[task.on]
    by, across = (_codes([columns[name] for name in names], len(rows)) for names in (task.by, task.across))
    keys, group_of = np.unique(_codes([by, across, on], len(rows)), return_inverse=True)
    order = np.argsort(group_of, kind="stable")
    if max_size_group is not None:
        # One key per item of the table, so that leaving an item out does not redraw all the others.
        order = order[_ranked(group_of, rng.random(len(items))[rows])[order] < max_size_group]
    starts = np.searchsorted(group_of[order], np.arange(len(keys) + 1))
    member = order[starts[:-1]]
    values = {name: codes[member] for name, codes in columns.items()}
    same, context, target = by[member], across[member], on[member]
    sizes = np.diff(starts)

    a, b = _partners(_codes([same, context], len(member)), np.arange(len(member)))
    keep = target[a] != target[b]
    if not task.across:
        keep &= sizes[a] >= 2
    a, b = a[keep], b[keep]
    x = a
    if task.across:
        pair, x = _partners(_codes([same, target], len(member)), a)
        a, b = a[pair], b[pair]
        keep = np.logical_and.reduce([values[name][a] != values[name][x] for name in task.across])
        a, b, x = a[keep], b[keep], x[keep]
        if max_x_across is not None:
            keep = _ranked(a * len(member) + b, rng.random(len(a))) < max_x_across
            a, b, x = a[keep], b[keep], x[keep]
    if not len(a):
        raise InputError(_why_empty(task, values))

    sort = np.lexsort([
        *(values[name][x] for name in reversed(task.across)),
        target[b],
        *(values[name][a] for name in reversed(task.columns)),
    ])  # fmt: skip
    roles = np.stack([a, b, x])[:, sort]
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
    labels = items.frame.select(task.columns)[rows[member]]
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
        by=np.unique(same[used], return_inverse=True)[1],
        groups=(np.cumsum(used) - 1)[roles],
        frame=frame,
        size=size,
        constraints=None if constraints is None else constraints._replace(codes=constraints.codes[:, kept]),
    )


def _codes(columns: list[Integers], length: int) -> Integers:
    """One number per row, equal where all columns are, in the order of the columns' values."""
    codes = np.zeros(length, dtype=np.int64)
    for column in columns:
        codes = np.unique(codes * (column.max() + 1) + column, return_inverse=True)[1].astype(np.int64)
    return codes


def _partners(key: Integers, left: Integers) -> tuple[Integers, Integers]:
    """All (position in ``left``, group) with equal keys, ``left`` holding group numbers."""
    order = np.argsort(key, kind="stable")
    first = np.searchsorted(key[order], key[left], side="left")
    count = np.searchsorted(key[order], key[left], side="right") - first
    position = np.repeat(np.arange(len(left)), count)
    within = np.arange(len(position)) - np.repeat(np.cumsum(count) - count, count)
    return position, order[first[position] + within]


def _ranked(group: Integers, key: npt.NDArray[np.float64]) -> Integers:
    """The rank of each element among those of its group, by ``key``."""
    order = np.lexsort((key, group))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(group)) - np.searchsorted(group[order], group[order])
    return rank


def _why_empty(task: Task, values: dict[str, Integers]) -> str:
    start = f"No cell can be formed ON {task.on}"
    if len(np.unique(values[task.on])) < 2:
        return f"{start}: the items have a single value in that column, and two are needed."
    same = ", ".join((*task.by, *task.across))
    if task.across:
        need = f"two values of {task.on} that share {same}, one of them also found with another {task.across[0]}"
    else:
        need = f"two values of {task.on}{f' that share {same}' if same else ''}, one of them with two items"
    return f"{start}: that needs {need}, and the items have no such case; use another BY or ACROSS, or more items."
