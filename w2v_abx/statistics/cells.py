"""Cells of an ABX task as a weighted mean: how much each weighs, and whose labels and speakers are in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError

__all__ = ["WHICH", "CellMean", "Cells", "Floats", "Levels", "Noise", "PairMean", "read_cells"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Levels = Sequence[str | Sequence[str]]
MEASURES = ("score", "size", "delta_sum", "delta_square_sum", "distance_mean")
WHICH = ("layer", "condition")
FEWEST = 3  # speakers (or labels): of fewer the spread cannot be estimated, and they are held fixed


class Noise(NamedTuple):
    """Variances of the average of cells.

    ``labels`` and ``speakers`` are those of delete-one jackknives, ``nan`` where that many are held fixed; ``residual``
    is the part of ``speakers`` that comes from single cells.
    """

    labels: float
    speakers: float
    residual: float


@dataclass(frozen=True)
class PairMean:
    """An average over pairs of labels.

    Attributes:
        names: the L labels that are told apart.
        pairs: (P, 2) the labels of each unordered pair, as positions in ``names``.
        weights: (P,) what each pair weighs; their sum is 1.
        n_speakers: how many speakers are in it; 0 where they are not known.
    """

    names: list[str]
    pairs: Integers
    weights: Floats
    n_speakers: int

    def variances(self, values: Floats) -> tuple[Floats, Floats]:
        """Variances of the mean of ``values`` (…, P): over labels, each with all its pairs; and over pairs alone.

        That over labels is the delete-one jackknife's, exactly so if each label is paired with each.
        """
        n_pairs, n = len(self.pairs), len(self.names)
        apart = self.weights * (values - (values @ self.weights)[..., None])
        incidence = np.zeros((n_pairs, n))
        np.put_along_axis(incidence, self.pairs, 1.0, axis=1)
        labels = n * (n - 1) / (n - 2) ** 2 * ((apart @ incidence) ** 2).sum(-1)
        return labels, n_pairs / (n_pairs - 1) * (apart**2).sum(-1)


@dataclass(frozen=True)
class CellMean:
    """The average of a table of cells, which is a weighted mean of them.

    Attributes:
        over: the pairs of labels.
        pair, reverse: (C,) which pair each cell belongs to, and whether it is (b, a) rather than (a, b).
        weights: (C,) what each cell weighs in the average; their sum is 1.
        roles: (C,) each, the speaker of A (and B), and of X where that is another one, by number.
    """

    over: PairMean
    pair: Integers
    reverse: npt.NDArray[np.bool_]
    weights: Floats
    roles: tuple[Integers, ...]

    def mean(self, values: Floats) -> float:
        """The average of ``values`` (C,)."""
        return float(self.weights @ values)

    def per_pair(self, values: Floats) -> Floats:
        """(P,) the average of each unordered pair."""
        return np.bincount(self.pair, self.weights * values) / self.over.weights

    def noise(self, values: Floats) -> Noise:
        """How far the average of ``values`` (C,) may be off, since other labels or speakers could have been drawn."""
        labels = speakers = residual = np.nan
        n, n_pairs, per_pair = self.over.n_speakers, len(self.over.pairs), self.per_pair(values)
        if n_pairs >= FEWEST:
            labels = float(max(self.over.variances(per_pair)))
        # A speaker whom every cell needs cannot be left out.
        if n >= FEWEST and self._per_speaker(self.weights).sum(0).max() < 1 - 1e-9:
            factor = n / (n - 1) if len(self.roles) == 1 else n * (n - 1) / (n - 2) ** 2
            apart = self.weights * (values - self.mean(values))
            speakers = factor * float((self._per_speaker(apart).sum(0) ** 2).sum())
            table = self._per_speaker(self.weights * (values - per_pair[self.pair]))
            residual = factor * n_pairs / max(1, n_pairs - 1) * float(((table - table.mean(0)) ** 2).sum())
        return Noise(labels, speakers, residual)

    def _per_speaker(self, values: Floats) -> Floats:
        """(P, speakers) the sums of ``values`` (C,) over the cells of each pair and speaker, in either role."""
        shape = len(self.over.pairs), self.over.n_speakers
        table = np.zeros(shape[0] * shape[1])
        for role in self.roles:
            table += np.bincount(self.pair * shape[1] + role, values, len(table))
        return table.reshape(shape)


class Cells(NamedTuple):
    """A table of cells, in the order of its keys: these, the cells' scores and triplets (C,), and their average."""

    keys: pl.DataFrame
    scores: Floats
    sizes: Floats | None
    mean: CellMean


class _Prepared(NamedTuple):
    """What was asked of a table, its keys as they came, and what follows from these alone."""

    asked: tuple[object, ...]
    raw: pl.DataFrame
    order: Integers
    keys: pl.DataFrame
    mean: CellMean


_latest: list[_Prepared] = []  # one: layers and models have the same cells, whose strings are sorted once


def read_cells(
    frame: pl.DataFrame,
    name: str,
    *,
    on: str = "#phone",
    speaker: str | None = "speaker",
    levels: Levels | None = None,
    weighted: bool = False,
) -> Cells:
    """Read one layer's cells in one condition, without columns that say nothing, and how they are averaged.

    Args: as in `w2v_abx.statistics.intervals.estimate`; ``name`` is what a message calls them.

    Raises:
        InputError: that is not such a table.
    """
    needed = [on, f"{on}_b", "score", *([speaker] if speaker else []), *(["size"] if weighted else [])]
    for column in needed:
        if column not in frame.columns:
            raise InputError(f"the cells {name} have no column {column!r}; they have {', '.join(frame.columns)}")
    for column in WHICH:
        if column in frame.columns and frame[column].n_unique() > 1:
            raise InputError(
                f"the cells {name} hold several values of {column!r}; compare one at a time, or all with compare_all"
            )
    if frame.is_empty():
        raise InputError(f"the table of cells {name} is empty; there is nothing to compare")
    if not frame["score"].is_finite().fill_null(False).all():
        raise InputError(f"the cells {name} hold a score that is not a number; score that model again")
    for column in (*needed, f"{speaker}_x"):
        if column in frame.columns and 0 < frame[column].null_count() < frame.height + (column in needed):
            raise InputError(f"{frame[column].null_count()} of the cells {name} have no value for {column!r}")
    # Conditions are stacked in one file, so a column that another condition needs is here, and null throughout.
    keys = sorted(c for c in frame.columns if c not in (*MEASURES, *WHICH) and frame[c].null_count() < frame.height)
    asked, raw = (on, speaker, levels, weighted), frame.select(*keys, *(["size"] if weighted else []))
    if not (_latest and _latest[0].asked == asked and _latest[0].raw.equals(raw)):
        if raw.select(keys).is_duplicated().any():
            raise InputError(f"the cells {name} hold the same cell twice; give each model's cells once")
        order = raw.select(keys).with_row_index("row").sort(keys)["row"].to_numpy().astype(np.int64)
        mean = _cell_mean(raw[order], keys, on, speaker, levels, weighted)
        _latest[:] = [_Prepared(asked, raw, order, raw[order].select(keys), mean)]
    _, _, order, ordered, mean = _latest[0]
    scores, sizes = (
        frame[column].to_numpy().astype(np.float64)[order] if column in frame.columns else None
        for column in ("score", "size")
    )
    assert scores is not None
    return Cells(ordered, scores, sizes, mean)


def _cell_mean(
    frame: pl.DataFrame, keys: Sequence[str], on: str, speaker: str | None, levels: Levels | None, weighted: bool
) -> CellMean:
    """How cells are averaged: see `w2v_abx.abx.averaging`."""
    names, (first, second) = _codes(frame, [on, f"{on}_b"])
    low, high = np.minimum(first, second), np.maximum(first, second)
    found, pair = np.unique(low * len(names) + high, return_inverse=True)
    x_column = f"{speaker}_x" if f"{speaker}_x" in keys else None
    speakers, roles = _codes(frame, [c for c in (speaker, x_column) if c])
    weights = _weights(frame, keys, on, speaker, levels, weighted)
    pairs = np.stack(np.divmod(found, len(names)), axis=1)
    over = PairMean(names, pairs, np.bincount(pair, weights).astype(np.float64), len(speakers))
    return CellMean(over, pair, first > second, weights, tuple(roles))


def _weights(
    frame: pl.DataFrame, keys: Sequence[str], on: str, speaker: str | None, levels: Levels | None, weighted: bool
) -> Floats:
    """What each cell weighs: by triplets if ``weighted``, else 1 over the number of those that a level averages.

    Without ``levels``, those of `w2v_abx.abx.task.Task`: contexts, then speakers (phones, where speakers are told
    apart), then what else differs for X.
    """
    if weighted:
        size = frame["size"].to_numpy().astype(np.float64)
        return size / size.sum()
    of_x = [key for key in keys if key.endswith("_x") and key.removesuffix("_x") in keys]
    left = [key for key in keys if key not in of_x]
    if levels is None:
        unit = "#phone" if on == "speaker" else speaker
        other = [key.removesuffix("_x") for key in of_x if key != f"{unit}_x"]
        contexts = [key for key in left if key not in (on, f"{on}_b", unit, *other)]
        levels = [level for level in (contexts, [unit] if unit in left else [], other) if level]
    groups, members = frame.select(left), []
    for level in [*levels, []]:  # at the last, only cells that differ in X alone are left to join
        left = [key for key in left if key not in ([level] if isinstance(level, str) else level)]
        codes = groups.select(pl.struct(left).rank("dense")).to_series().to_numpy()
        _, first, member = np.unique(codes, return_index=True, return_inverse=True)
        members.append(member)
        groups = groups[first].select(left)
    weights = np.full(groups.height, 1 / groups.height)
    for member in reversed(members):
        weights = (weights / np.bincount(member))[member]
    return weights


def _codes(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[list[str], list[Integers]]:
    """The distinct values of all ``columns``, as sorted strings, and each column as positions among them."""
    strings = [frame[column].cast(pl.String) for column in columns]
    values = sorted({value for column in strings for value in column.unique()})
    return values, [c.cast(pl.Enum(values)).to_physical().to_numpy().astype(np.int64) for c in strings]
