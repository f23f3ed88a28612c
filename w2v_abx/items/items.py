"""Items: spans of audio files with labels, as ABX item files list them."""

import os
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.items.frames import FrameClock, exact_frequency, frame_spans
from w2v_abx.items.tables import Table, as_text, read_table
from w2v_abx.system import atomic

__all__ = ["FILE", "OFFSET", "ONSET", "Items", "exact_frequency"]

FILE, ONSET, OFFSET = "#file", "onset", "offset"
POSITION = (FILE, ONSET, OFFSET)
EXPONENT = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,3}$"
NEARLY_ZERO = r"^-(0+\.?0*|0*\.0+|0*\.0{6}[0-9]+)$"
SECONDS = r"^(0*[0-9]{1,9}(\.[0-9]*)?|\.[0-9]+)$"  # of a longer file no frame has a number


class Items:
    """A table of items, one row each: ``#file``, ``onset`` and ``offset`` in seconds, and any label columns.

    ``frame`` holds every column as a string, so that times keep the decimal digits they were written with: whether a
    frame belongs to an item is decided in exact arithmetic.

    Items read from a file are without the rows that are no items, which a warning counts: those in which nothing stands
    in a column, a time is not a plain non-negative number, or the onset lies after the offset.

    Raises:
        InputError: a column is missing or doubled; a row is no item (of a file: most are none); or there is no item at
            all. The message names the row (the line, from a file).
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        text = frame.select(as_text(frame[name]) for name in frame.columns)
        self._setup(Table(text, "items", np.arange(1, frame.height + 1), "row"))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Items":
        """Read items from an item file, or from CSV, JSON lines or parquet by the ending of the name.

        The header of an item file is ``#file onset offset #phone prev-phone next-phone speaker``; other label columns
        may stand beside or instead of the last four. See :func:`w2v_abx.items.tables.read_table` for the formats. Times
        keep the digits they are written with. If no column is called ``#file``, the column ``file`` is.
        """
        return cls.of_table(read_table(path))

    @classmethod
    def of_table(cls, table: Table) -> "Items":
        """The items of a table, whose lines messages then name."""
        items = cls.__new__(cls)
        items._setup(table)
        return items

    def take(self, rows: npt.NDArray[np.int64]) -> "Items":
        """The items in some rows; messages go on naming their lines."""
        return Items.of_table(self._table.take(rows))

    def labelled(self, **labels: npt.NDArray[np.str_]) -> "Items":
        """The items with more label columns, one value each."""
        return Items.of_table(
            replace(self._table, frame=self.frame.with_columns(pl.Series(*label) for label in labels.items()))
        )

    def _setup(self, table: Table) -> None:
        frame = table.frame
        if FILE not in frame.columns:
            frame = frame.rename({"file": FILE}, strict=False)
        for name in POSITION:
            if name not in frame.columns:
                raise InputError(
                    f"{table.header}: items need the columns '#file' (or 'file'), 'onset' and 'offset', but there is "
                    f"no column '{name}' (there are: {', '.join(frame.columns)[:200]})."
                )
        if not frame.height:
            raise InputError(f"{table.source}: there is no item in it.")
        empty = {
            name: (frame[name].is_null() | (frame[name] == "")).fill_null(True).to_numpy() for name in frame.columns
        }
        table = replace(table, frame=frame).without(
            np.any(list(empty.values()), axis=0),
            lambda row: f"nothing stands in the column '{next(name for name in empty if empty[name][row])}'.",
        )
        times = {name: _plain(table.frame[name]) for name in (ONSET, OFFSET)}
        wrong = {name: ~texts.str.contains(SECONDS).to_numpy() for name, texts in times.items()}
        table = table.without(wrong[ONSET] | wrong[OFFSET], lambda row: _not_seconds(row, wrong, times))
        right = pl.Series(~(wrong[ONSET] | wrong[OFFSET]))
        onsets, offsets, self._decimals = _whole(times[ONSET].filter(right), times[OFFSET].filter(right))
        backwards = onsets > offsets
        columns = table.frame
        table = table.without(
            backwards,
            lambda row: f"the onset {columns[ONSET][row]} lies after the offset {columns[OFFSET][row]}.",
        )
        self._onsets, self._offsets = onsets[~backwards], offsets[~backwards]
        self._table, self.frame = table, table.frame

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def labels(self) -> list[str]:
        """The names of the label columns."""
        return [name for name in self.frame.columns if name not in POSITION]

    def where(self, row: int) -> str:
        """Where an item comes from, for messages: ``dev.item, line 12``."""
        return self._table.where(row)

    def spans(self, frequency: Fraction, slicing: str = "exact") -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First frame of each item, and the frame after its last, at ``frequency`` frames a second.

        See :func:`w2v_abx.items.frames.frame_spans`; an item shorter than a frame may have none.
        """
        return frame_spans(self._onsets, self._offsets, 10**self._decimals, FrameClock(frequency), slicing)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write an item file, atomically; separated by spaces, or by tabs where a value holds a space."""
        path = Path(path)
        names = self.frame.columns
        spaced = any(" " in name for name in names) or any(self.frame[name].str.contains(r"\s").any() for name in names)
        separator = "\t" if spaced else " "
        for name in names:
            broken = self.frame[name].str.contains(r"[\t\r\n]").to_numpy()
            if broken.any():
                raise InputError(
                    f"{self.where(int(broken.argmax()))}: an item file cannot hold the tab or line break in '{name}'."
                )
        rows = (separator.join(row) + "\n" for row in self.frame.iter_rows())
        atomic.write_text(path, separator.join(names) + "\n" + "".join(rows))


def _plain(texts: pl.Series) -> pl.Series:
    """Times without spaces around them, a sign, or an exponent, as other programs write small ones (5e-05).

    What computers make of zero, a sign before it or up to a microsecond below it, is zero.
    """
    texts = texts.str.strip_chars().str.strip_prefix("+")
    powers = texts.str.contains(EXPONENT).arg_true()
    if len(powers):
        texts = texts.scatter(powers, [format(Decimal(text), "f") for text in texts.gather(powers)])
    return texts.str.replace(NEARLY_ZERO, "0") if texts.str.starts_with("-").any() else texts


def _not_seconds(row: int, wrong: Mapping[str, npt.NDArray[np.bool_]], times: Mapping[str, pl.Series]) -> str:
    name = ONSET if wrong[ONSET][row] else OFFSET
    return f"the {name} '{times[name][row]}' is not a number of seconds (zero or more, as in 1.25)."


def _whole(onsets: pl.Series, offsets: pl.Series) -> tuple[npt.NDArray[Any], npt.NDArray[Any], int]:
    """Times as whole numbers of the smallest decimal unit among them: exact, whatever the digits; and its decimals."""
    parts = [texts.str.split_exact(".", 1).struct.unnest().fill_null("") for texts in (onsets, offsets)]
    decimals = max(max(part["field_1"].str.len_bytes().to_list(), default=0) for part in parts)
    numbers = [_integers(part["field_0"] + part["field_1"].str.pad_end(decimals, "0")) for part in parts]
    return numbers[0], numbers[1], decimals


def _integers(digits: pl.Series) -> npt.NDArray[Any]:
    numbers = digits.cast(pl.Int64, strict=False)
    # Beyond 64 bits numpy keeps Python integers in an object array, which computes the same, slowly.
    return np.array([int(text) for text in digits], dtype=object) if numbers.null_count() else numbers.to_numpy()
