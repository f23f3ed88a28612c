"""Labels of points in folds, and permuted: what similarities to labels are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_abx.analysis.points import Points, classes_of
from w2v_abx.analysis.probing.held_out import held_unit, units_of

__all__ = ["Labelling", "Partition", "partitions"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labelling:
    """A label of the points' items.

    Attributes:
        classes: their names.
        codes: (1 + P, items), as they are and permuted P times; -1: no such label.
        permuted: what they are permuted among: "speaker", "file" or "item".
        constant: whether each unit that is held out has one value.
    """

    column: str
    classes: list[str]
    codes: Integers
    permuted: str
    constant: bool


@dataclass(frozen=True)
class Partition:
    """Units in folds, and the labels that are held out by these units.

    Attributes:
        unit: "speaker", "file" or "item".
        units: how many there are.
        labellings: L of them.
        folds: (items,) from 0 to ``number`` - 1.
        cells: (items,); the items of a cell are in one fold and have the same labels.
        fold: (C,) of each cell.
        has: (C, L) whether its items have each label.
    """

    unit: str
    units: int
    labellings: Sequence[Labelling]
    folds: Integers
    number: int
    cells: Integers
    fold: Integers
    has: npt.NDArray[np.bool_]

    @property
    def sizes(self) -> list[tuple[int, int, int]]:
        """For each label, the shape of its rows in `members`: 1 + P, folds and classes."""
        return [(len(one.codes), self.number, len(one.classes)) for one in self.labellings]

    def members(self) -> Any:
        """Make a sparse matrix (items, R): in which rows, of labels, permutations, folds and classes, items count."""
        from scipy.sparse import csr_matrix

        items, rows, offset = [], [], 0
        for one, (_, folds, classes) in zip(self.labellings, self.sizes, strict=True):
            for codes in one.codes:
                there = np.flatnonzero(codes >= 0)
                items.append(there)
                rows.append(offset + self.folds[there] * classes + codes[there])
                offset += folds * classes
        places = [np.concatenate([np.empty(0, dtype=np.int64), *parts]) for parts in (items, rows)]
        return csr_matrix((np.ones(len(places[0])), places), shape=(len(self.folds), offset))

    def by_label(self, rows: Floats) -> list[Floats]:
        """Part what stands in the rows of `members`, (R, …), by label: (1 + P, folds, classes, …)."""
        ends = np.cumsum([int(np.prod(size)) for size in self.sizes])
        parts = np.split(rows, ends[:-1]) if len(ends) else []
        return [part.reshape(*size, *rows.shape[1:]) for part, size in zip(parts, self.sizes, strict=True)]


def partitions(points: Points, columns: Sequence[str], folds: int, permutations: int, seed: int) -> list[Partition]:
    """Put units in folds at random, for each label the widest unit that can be held out.

    The first partition is of speakers, or files where there is one speaker, whether or not a label is held out by them.

    Raises:
        InputError: a label cannot be held out; see `held_unit`.
    """
    units = {name: _of_items(points, codes) for name, codes in units_of(points).items()}
    held = {column: held_unit(points, column)[0] for column in columns}
    first = next(name for name, codes in units.items() if name == "item" or len(np.unique(codes)) > 1)
    made = []
    for unit in dict.fromkeys([first, *held.values()]):
        own = [
            _labelling(points, column, units, unit, permutations, seed) for column in columns if held[column] == unit
        ]
        made.append(_partition(unit, units[unit], own, folds, seed))
    return made


def _of_items(points: Points, codes: Integers) -> Integers:
    """The unit of each item, from those of the points."""
    found = np.empty(len(points.items), dtype=np.int64)
    found[points.item] = codes
    return found


def _labelling(
    points: Points, column: str, units: dict[str, Integers], held: str, permutations: int, seed: int
) -> Labelling:
    """Permute a label among the widest units in which it is constant, unless each class is but one of these."""
    found = classes_of(points.items, column)
    there = np.flatnonzero(found.codes >= 0)
    unit, own, values = _permuted(found.codes[there], {name: groups[there] for name, groups in units.items()})
    codes, random = [found.codes], np.random.default_rng(seed)
    for _ in range(permutations):
        shuffled = np.full_like(found.codes, -1)
        shuffled[there] = random.permutation(values)[own]
        codes.append(shuffled)
    pairs = np.unique(np.stack([units[held], found.codes])[:, there], axis=1)
    return Labelling(column, found.names, np.stack(codes), unit, pairs.shape[1] == len(np.unique(pairs[0])))


def _permuted(codes: Integers, units: dict[str, Integers]) -> tuple[str, Integers, Integers]:
    """Find what a label is permuted among; the number of each item's unit, and the label of each unit."""
    for unit, groups in units.items():
        names, first, own = np.unique(groups, return_index=True, return_inverse=True)
        if len(names) > len(np.unique(codes)) and (codes[first][own] == codes).all():
            return unit, own.astype(np.int64), codes[first]
    return "item", np.arange(len(codes)), codes


def _partition(unit: str, units: Integers, labellings: Sequence[Labelling], folds: int, seed: int) -> Partition:
    names, own = np.unique(units, return_inverse=True)
    number = min(folds, len(names))
    fold_of = np.empty(len(names), dtype=np.int64)
    for fold, group in enumerate(np.array_split(np.random.default_rng(seed).permutation(len(names)), number)):
        fold_of[group] = fold
    in_fold = fold_of[own]
    has = np.stack([in_fold, *(one.codes[0] >= 0 for one in labellings)], axis=1)
    kinds, cells = np.unique(has, axis=0, return_inverse=True)
    return Partition(
        unit,
        len(names),
        labellings,
        in_fold,
        number,
        cells.reshape(-1).astype(np.int64),
        kinds[:, 0],
        kinds[:, 1:].astype(bool),
    )
