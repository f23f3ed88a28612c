"""Where distances lie: panels, and the batches in which they are worked on.

A *panel* is a matrix of X items by all items of their block: one a block, or several where the block is large. Small
panels are worked on together, in batches.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from w2v_abx.abx.cells import Cells

__all__ = ["Batch", "cut_batches"]

Integers = npt.NDArray[np.int64]

PANEL = 1 << 26  # distances in one panel at most (256 MiB), unless a single group needs more
BATCH = 1 << 21  # distances in a batch of several panels at most
ITEMS = 1 << 10  # items in such a batch at most, about: prepared together, their frames are still cached when aligned
EACH = 8  # batches for each of several ranks, at least, so that none waits long for the others


@dataclass(frozen=True)
class Batch:
    """Consecutive panels, in local numbers: groups count from the first of the batch, and items from its first item.

    Attributes:
        rows: the row groups, as a range over all groups.
        groups: the groups of their blocks, likewise.
        starts: where each group's items begin.
        base, columns: the distance of item x of group g to item y lies at ``base[g] + x · columns[g] + y``.
        panel: the panel whose rows a group belongs to, or −1.
        area: the number of distances.
    """

    rows: range
    groups: range
    starts: Integers
    base: Integers
    columns: Integers
    panel: Integers
    area: int

    @property
    def own(self) -> slice:
        """The row groups among the batch's groups."""
        return _local(self.rows, self.groups)


def cut_batches(cells: Cells, ranks: int) -> list[Batch]:
    """The panels of all cells in batches, several for each of ``ranks``."""
    sizes = np.diff(cells.starts)
    items = np.bincount(cells.block, weights=sizes)
    # A block that is cut aligns some pairs twice, so no further than ranks need; small ones go in several batches each.
    area = int((items**2).sum()) if ranks > 1 else PANEL
    largest, batch_area = min(PANEL, area // ranks), min(BATCH, area // (ranks * EACH))
    edges = np.flatnonzero(np.diff(cells.block, prepend=-1, append=-1)).tolist()
    batches: list[Batch] = []
    waiting: list[tuple[range, range]] = []
    area = held = 0
    for first, last in pairwise(edges):
        width = int(sizes[first:last].sum())
        for rows in _cut(sizes, first, last, max(largest // width, 1)):
            panel = width * int(sizes[rows.start : rows.stop].sum())
            if waiting and (area + panel > batch_area or held + width > ITEMS):
                batches.append(_batch(cells, waiting))
                waiting, area, held = [], 0, 0
            waiting.append((rows, range(first, last)))
            area, held = area + panel, held + width
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


def _batch(cells: Cells, panels: list[tuple[range, range]]) -> Batch:
    groups = range(panels[0][1].start, panels[-1][1].stop)
    starts = cells.starts[groups.start : groups.stop + 1] - cells.starts[groups.start]
    base, columns = np.zeros(len(groups), dtype=np.int64), np.zeros(len(groups), dtype=np.int64)
    number = np.full(len(groups), -1, dtype=np.int64)
    area = 0
    for rows, block in panels:
        own, whole = _local(rows, groups), _local(block, groups)
        width = int(starts[whole.stop] - starts[whole.start])
        columns[own] = width
        base[own] = area - int(starts[own.start]) * width - int(starts[whole.start])
        number[own] = rows.start  # Any number that no other panel has.
        area += int(starts[own.stop] - starts[own.start]) * width
    return Batch(range(panels[0][0].start, panels[-1][0].stop), groups, starts, base, columns, number, area)


def _local(part: range, whole: range) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
