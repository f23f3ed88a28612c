"""Items: stretches of audio files with labels, as ABX item files list them."""

import os
import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.items.tables import Table, as_text, read_table
from w2v_abx.system import atomic

__all__ = ["FILE", "OFFSET", "ONSET", "Items", "exact_frequency"]

FILE, ONSET, OFFSET = "#file", "onset", "offset"
POSITION = (FILE, ONSET, OFFSET)
EXPONENT = re.compile(r"(\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}", re.ASCII)
SECONDS = re.compile(r"\d+(\.\d*)?|\.\d+", re.ASCII)


class Items:
    """A table of items, one row each: ``#file``, ``onset`` and ``offset`` in seconds, and any label columns.

    ``frame`` holds every column as a string, so that times keep the decimal digits they were written with: whether a
    frame belongs to an item is decided in exact arithmetic.

    Raises:
        InputError: a column is missing, doubled or holds a null; a time is not a plain non-negative number; an onset
            lies after its offset; or there is no item at all. The message names the row (the line, from a file).
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
        table = self._table
        sources = None if table.sources is None else [table.sources[row] for row in rows.tolist()]
        return Items.of_table(replace(table, frame=self.frame[rows], numbers=table.numbers[rows], sources=sources))

    def _setup(self, table: Table) -> None:
        self._table = table
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
        self.frame = frame
        for name in self.frame.columns:
            empty = (self.frame[name].is_null() | (self.frame[name] == "")).fill_null(True).to_numpy()
            if empty.any():
                raise InputError(f"{self.where(int(empty.argmax()))}: nothing stands in the column '{name}'.")
        times = {name: self.frame[name].to_list() for name in (ONSET, OFFSET)}
        for name, texts in times.items():
            for row, written in enumerate(texts):
                text = texts[row] = _plain(written)
                if not SECONDS.fullmatch(text):
                    raise InputError(
                        f"{self.where(row)}: the {name} '{text}' is not a number of seconds (zero or more, as in 1.25)."
                    )
        # Whole numbers of the smallest decimal unit in the file: exact, whatever the digits.
        self._decimals = max(len(text.partition(".")[2]) for texts in times.values() for text in texts)
        self._onsets, self._offsets = (
            _integers([_scaled(text, self._decimals) for text in texts]) for texts in times.values()
        )
        backwards = self._onsets > self._offsets
        if backwards.any():
            row = int(backwards.argmax())
            raise InputError(
                f"{self.where(row)}: the onset {times[ONSET][row]} lies after the offset {times[OFFSET][row]}."
            )

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def labels(self) -> list[str]:
        """The names of the label columns."""
        return [name for name in self.frame.columns if name not in POSITION]

    def where(self, row: int) -> str:
        """Where an item comes from, for messages: ``dev.item, line 12``."""
        return self._table.where(row)

    def spans(self, frequency: Fraction) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First frame of each item, and the frame after its last, at ``frequency`` frames a second.

        The frames run from ``ceil(onset·f − 1/2)`` up to and including ``floor(offset·f − 1/2)``, as in ABXpy,
        computed exactly. An item shorter than a frame may have none (its end is then not after its start).
        """
        whole = 10**self._decimals * frequency.denominator
        largest = max(int(self._offsets.max()) * 2 * frequency.numerator + whole, 2 * whole)
        kind = np.dtype(np.int64) if largest < 2**62 else np.dtype(object)
        twice = 2 * frequency.numerator
        first = -((whole - self._onsets.astype(kind) * twice) // (2 * whole))
        last = (self._offsets.astype(kind) * twice - whole) // (2 * whole)
        return first.astype(np.int64), last.astype(np.int64) + 1

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


def exact_frequency(frequency: float | str | Decimal | Fraction) -> Fraction:
    """Frames a second as an exact fraction; a float means the decimal number it prints as (49.95 is 999/20)."""
    try:
        exact = frequency if isinstance(frequency, Fraction) else Fraction(str(frequency))
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"The frequency must be a number of frames a second, not {frequency!r}.") from error
    if exact <= 0:
        raise InputError(f"The frequency must be above zero frames a second, not {frequency}.")
    return exact


def _plain(text: str) -> str:
    """A time without spaces around it, or an exponent, as other programs write small ones (5e-05)."""
    text = text.strip()
    return format(Decimal(text), "f") if EXPONENT.fullmatch(text) else text


def _scaled(text: str, decimals: int) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(decimals, "0"))


def _integers(values: list[int]) -> npt.NDArray[np.int64]:
    # Beyond 64 bits numpy keeps Python integers in an object array, which computes the same, slowly.
    return np.array(values, dtype=np.int64 if max(values) < 2**63 else object)
