"""Lay out the distances between items: blocks of the distance matrix, and the batches in which they are worked on.

A *block* is a matrix of X items by all items that share their BY values: one for each BY group, or several where the
group is large. Small blocks are worked on together, in batches.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from w2v_abx.abx.cells import Cells

__all__ = ["Batch", "Layout", "cut_batches"]

Integers = npt.NDArray[np.int64]

BLOCK_DISTANCES = 1 << 26  # in one block at most (256 MiB), unless a single group needs more
BATCH_DISTANCES = 1 << 21  # in a batch of several blocks at most
BATCH_ITEMS = 1 << 10  # in such a batch at most, about: prepared together, their frames stay cached until aligned
RANK_BATCHES = 8  # for each of several ranks, at least, so that none waits long for the others


class Layout(NamedTuple):
    """Where distances lie: that of item x of group g to item y at ``base[g] + x · columns[g] + y``.

    Attributes:
        starts: where each group's items begin.
        base, columns: see above.
        block: the block whose rows a group belongs to, or −1.
    """

    starts: Integers
    base: Integers
    columns: Integers
    block: Integers


@dataclass(frozen=True)
class Batch:
    """Consecutive blocks, in local numbers: groups count from the first of the batch, and items from its first item.

    Attributes:
        rows: the row groups, as a range over all groups.
        groups: the groups that share their BY values, likewise.
        layout: where the distances lie.
        size: the number of distances.
    """

    rows: range
    groups: range
    layout: Layout
    size: int

    @property
    def own(self) -> slice:
        """The row groups among the batch's groups."""
        return _local(self.rows, self.groups)


def cut_batches(cells: Cells, ranks: int) -> list[Batch]:
    """The blocks of all cells in batches, several for each of ``ranks``."""
    sizes = np.diff(cells.starts)
    items = np.bincount(cells.by, weights=sizes)
    # A block that is cut aligns some pairs twice, so no further than ranks need; small ones go in several batches each.
    total = int((items**2).sum()) if ranks > 1 else BLOCK_DISTANCES
    largest, most = min(BLOCK_DISTANCES, total // ranks), min(BATCH_DISTANCES, total // (ranks * RANK_BATCHES))
    edges = np.flatnonzero(np.diff(cells.by, prepend=-1, append=-1)).tolist()
    batches: list[Batch] = []
    waiting: list[tuple[range, range]] = []
    distances = held = 0
    for first, last in pairwise(edges):
        width = int(sizes[first:last].sum())
        for rows in _cut(sizes, first, last, max(largest // width, 1)):
            more = width * int(sizes[rows.start : rows.stop].sum())
            if waiting and (distances + more > most or held + width > BATCH_ITEMS):
                batches.append(_batch(cells, waiting))
                waiting, distances, held = [], 0, 0
            waiting.append((rows, range(first, last)))
            distances, held = distances + more, held + width
    return [*batches, _batch(cells, waiting)]


def _cut(sizes: Integers, first: int, last: int, most: int) -> list[range]:
    """Cut groups first:last into ranges of at most ``most`` items, or of one group."""
    ranges, begin, items = [], first, 0
    for group in range(first, last):
        if group > begin and items + sizes[group] > most:
            ranges.append(range(begin, group))
            begin, items = group, 0
        items += int(sizes[group])
    return [*ranges, range(begin, last)]


def _batch(cells: Cells, blocks: list[tuple[range, range]]) -> Batch:
    groups = range(blocks[0][1].start, blocks[-1][1].stop)
    starts = cells.starts[groups.start : groups.stop + 1] - cells.starts[groups.start]
    base, columns = np.zeros(len(groups), dtype=np.int64), np.zeros(len(groups), dtype=np.int64)
    number = np.full(len(groups), -1, dtype=np.int64)
    distances = 0
    for rows, by in blocks:
        own, whole = _local(rows, groups), _local(by, groups)
        width = int(starts[whole.stop] - starts[whole.start])
        columns[own] = width
        base[own] = distances - int(starts[own.start]) * width - int(starts[whole.start])
        number[own] = rows.start  # Any number that no other block has.
        distances += int(starts[own.stop] - starts[own.start]) * width
    return Batch(
        range(blocks[0][0].start, blocks[-1][0].stop), groups, Layout(starts, base, columns, number), distances
    )


def _local(part: range, whole: range) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
