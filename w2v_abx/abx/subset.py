"""A few files of many that still make cells: for measuring often."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.abx.cells import Cells, build_cells
from w2v_abx.abx.task import Task
from w2v_abx.errors import InputError
from w2v_abx.items.frames import exact_frequency
from w2v_abx.items.items import FILE, Items
from w2v_abx.system.checks import whole

__all__ = ["subset"]

PER_GROUP = 2  # items of A, of B and of X whose files are taken for a cell: within speakers A needs two
TRIES = 50  # cells looked at for each file that may be taken


def subset(
    items: Items, tasks: Iterable[Task], frequency: float, max_files: int, seed: int, slicing: str = "exact"
) -> Items:
    """The items in ``max_files`` of the files, chosen so that every task keeps cells, of as many ON pairs as can be.

    Files drawn at random would leave few cells, or none, of tasks within contexts. Here cells are drawn instead, one
    of each ON pair in turn and of each task in turn, and the files that a cell needs are taken, as long as there are
    fewer than ``max_files``. Which ones is a function of the items, the tasks, the frequency and ``seed``.

    Raises:
        InputError: ``max_files`` is too small for one cell of each task; or there is no cell at all, see `score`.
    """
    whole("max_files", max_files, 1)
    names = items.frame[FILE]
    if names.n_unique() <= max_files:
        return items
    starts, stops = items.spans(exact_frequency(frequency), slicing)
    rows = np.flatnonzero(stops > starts)
    files = names.to_numpy()
    rng = np.random.default_rng(seed)
    orders = []
    for task in tasks:
        cells = build_cells(items, rows, task, seed=seed)
        order = _in_turn(cells, task.on, rng)[: TRIES * max_files]
        orders.append([(position, cells, int(cell)) for position, cell in enumerate(order)])
    taken: set[str] = set()
    kept = [False] * len(orders)
    queue = sorted((position, number) for number, order in enumerate(orders) for position, _, _ in order)
    for position, number in queue:
        _, cells, cell = orders[number][position]
        needed = _files_of(cells, cell, files, taken, rng)
        if len(taken | needed) <= max_files:
            taken |= needed
            kept[number] = True
        if len(taken) == max_files and all(kept):
            break
    if not all(kept):
        raise InputError(f"max_files={max_files} is too few for one cell of every condition; take more files.")
    return items.take(np.flatnonzero(names.is_in(sorted(taken)).to_numpy()))


def _in_turn(cells: Cells, on: str, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The cells in a drawn order that takes one of each ON pair in turn."""
    pairs = cells.frame.select(on, f"{on}_b")
    shuffled = rng.permutation(pairs.height)
    # How many cells of the same pair come before.
    before = pairs[shuffled].select(pl.int_range(pl.len()).over(on, f"{on}_b")).to_series().to_numpy()
    return shuffled[np.argsort(before, kind="stable")]


def _files_of(
    cells: Cells, cell: int, files: npt.NDArray[np.object_], taken: set[str], rng: np.random.Generator
) -> set[str]:
    """Files with items of A, B and X of a cell, those that are taken already first."""
    needed: set[str] = set()
    for group in set(cells.groups[:, cell].tolist()):
        members = files[cells.items[cells.starts[group] : cells.starts[group + 1]]]
        members = members[rng.permutation(len(members))]
        ordered = sorted(members, key=lambda name: name not in taken and name not in needed)
        needed |= set(ordered[:PER_GROUP])
    return needed
