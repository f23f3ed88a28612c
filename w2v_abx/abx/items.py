"""Items: stretches of audio files with labels, as ABX item files list them."""

import os
import re
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx import atomic
from w2v_abx.errors import InputError

__all__ = ["FILE", "OFFSET", "ONSET", "Items", "exact_frequency"]

FILE, ONSET, OFFSET = "#file", "onset", "offset"
POSITION = (FILE, ONSET, OFFSET)
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
        self._setup(frame, "items", np.arange(1, frame.height + 1), "row")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Items":
        """Read an item file: a header and one item a line, separated by spaces or by tabs.

        The standard header is ``#file onset offset #phone prev-phone next-phone speaker``; other label columns may
        stand beside or instead of the last four. Blank lines are passed over.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not an item file: it is not UTF-8 text.") from error
        except OSError as error:
            raise InputError(f"The item file {path} cannot be read: {error.strerror}.") from error
        lines = text.split("\n")
        header = lines[0]
        separator = "\t" if "\t" in header else None
        columns = header.split(separator)
        for name in POSITION:
            if name not in columns:
                raise InputError(
                    f"{path}, line 1: the header of an item file begins with '#file onset offset', "
                    f"but this one has no column '{name}' (it reads: {header[:120]!r})."
                )
        if len(set(columns)) < len(columns):
            raise InputError(f"{path}, line 1: each column needs a name of its own, but the header reads {header!r}.")
        rows, numbers = [], []
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            fields = line.split(separator)
            if len(fields) != len(columns):
                raise InputError(
                    f"{path}, line {number}: {len(fields)} fields where the header names {len(columns)} columns."
                )
            rows.append(fields)
            numbers.append(number)
        frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
        items = cls.__new__(cls)
        items._setup(frame, str(path), np.array(numbers, dtype=np.int64), "line")
        return items

    def _setup(self, frame: pl.DataFrame, source: str, numbers: npt.NDArray[np.int64], unit: str) -> None:
        self._source, self._numbers, self._unit = source, numbers, unit
        for name in POSITION:
            if name not in frame.columns:
                raise InputError(f"{source}: there is no column '{name}' (there are: {', '.join(frame.columns)}).")
        if not frame.height:
            raise InputError(f"{source}: there is no item in it.")
        self.frame = frame.select(_text(frame[name]) for name in frame.columns)
        for name in self.frame.columns:
            empty = (self.frame[name].is_null() | (self.frame[name] == "")).fill_null(True).to_numpy()
            if empty.any():
                raise InputError(f"{self.where(int(empty.argmax()))}: nothing stands in the column '{name}'.")
        times = {name: self.frame[name].to_list() for name in (ONSET, OFFSET)}
        for name, texts in times.items():
            for row, text in enumerate(texts):
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
        return f"{self._source}, {self._unit} {self._numbers[row]}"

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


def _text(column: pl.Series) -> pl.Series:
    if column.dtype.is_float():
        # repr has the fewest digits that give the float back; Decimal writes them without an exponent.
        texts = [None if value is None else format(Decimal(repr(value)), "f") for value in column.to_list()]
        return pl.Series(column.name, texts, dtype=pl.String)
    return column.cast(pl.String)


def _scaled(text: str, decimals: int) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(decimals, "0"))


def _integers(values: list[int]) -> npt.NDArray[np.int64]:
    # Beyond 64 bits numpy keeps Python integers in an object array, which computes the same, slowly.
    return np.array(values, dtype=np.int64 if max(values) < 2**63 else object)
