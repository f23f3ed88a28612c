"""Read listener triplets: stimuli TGT, OTH and X as an experiment played them, instead of triplets built from cells."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.audio.walking import AUDIO_ENDINGS
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, OFFSET, ONSET, Items
from w2v_abx.items.tables import Table, read_table

__all__ = ["ListenerTriplets", "Stimuli"]

ROLES = ("TGT", "OTH", "X")
IDENTITY = ("triplet_id", "filename", "tripletid")
KEYS = ("index", "#file_extract", FILE, "file")  # of a table of stimuli, by which triplets name them
FILES = (FILE, "file", "#file_source")

Stimuli = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]


@dataclass(frozen=True, eq=False)
class ListenerTriplets:
    """Triplets of stimuli, a row each, or a row for each response to one.

    X is of the same category as TGT, and OTH is of the other.

    Attributes:
        items: the distinct stimuli.
        tgt, oth, x: (N,) the item of each row's TGT, OTH and X.
        triplet: (N,) the number of each row's triplet, from 0 in the order in which they first come.
        frame: N rows, every column as published, as text.
    """

    items: Items
    tgt: npt.NDArray[np.int64]
    oth: npt.NDArray[np.int64]
    x: npt.NDArray[np.int64]
    triplet: npt.NDArray[np.int64]
    table: Table

    @property
    def frame(self) -> pl.DataFrame:
        return self.table.frame

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """(T,) the first row of each triplet."""
        return np.unique(self.triplet, return_index=True)[1]

    @classmethod
    def read(cls, path: str | os.PathLike[str], stimuli: Stimuli | None = None) -> "ListenerTriplets":
        """Read triplets, in the layouts in which the Perceptimatic experiments are published.

        - ``file_TGT,onset_TGT,offset_TGT,file_OTH,…,file_X,onset_X,offset_X``, and any other columns;
        - ``TGT_item,OTH_item,X_item``, and any other columns, where ``stimuli`` names the table in which these are the
          ``index`` (or the ``#file_extract``) beside ``#file`` (or ``#file_source``), ``onset`` and ``offset``. Where
          tables of several languages use the same index, give a mapping: ``{"FR": french, "EN": english}`` looks those
          triplets up in ``french`` whose name (``triplet_id`` or ``filename``) begins with FR. Their files are then
          called ``FR/NAME``, since recordings of two languages may be called alike.

        The ending of an audio file's name (``.wav``) is left out. Rows with one ``triplet_id`` (or ``filename``) are
        responses to one triplet; without such a column, rows with the same three stimuli are.

        Raises:
            InputError: a column is missing, a stimulus is not in its table, a time is not a number of seconds, or rows
                of one triplet have different stimuli. The message names the line.
        """
        table = read_table(path)
        if not table.frame.height:
            raise InputError(f"{table.source}: there is no triplet in it.")
        if stimuli is not None:
            items, rows = _looked_up(table, _tables(stimuli))
        else:
            items, rows = _spelt_out(table)
        tgt, oth, x = rows
        return cls(items, tgt, oth, x, _triplets(table, rows), table)


def _column(table: Table, names: Sequence[str], what: str) -> list[str]:
    """The values of the first of ``names`` that is a column. Raises InputError if none is, or a value is missing."""
    found = next((name for name in names if name in table.frame.columns), None)
    if found is None:
        raise InputError(
            f"{table.header}: {what} needs a column {' or '.join(repr(name) for name in names)} "
            f"(there are: {', '.join(table.frame.columns)[:200]})."
        )
    column = table.frame[found]
    empty = column.fill_null("").str.strip_chars().eq("").to_numpy()
    if empty.any():
        raise InputError(f"{table.where(int(empty.argmax()))}: nothing stands in the column '{found}'.")
    return column.to_list()


def _spelt_out(table: Table) -> tuple[Items, list[npt.NDArray[np.int64]]]:
    columns = table.frame.columns
    if not any(name in columns for role in ROLES for name in _names("onset", role)) and "TGT_item" in columns:
        raise InputError(
            f"{table.header}: these triplets name their stimuli by TGT_item, OTH_item and X_item; give the table that "
            "says where those are (index, #file, onset, offset) with abx.stimuli."
        )
    stimuli: list[tuple[str, str, str]] = []
    for role in ROLES:
        what = f"the stimulus {role}"
        files = [_stem(name) for name in _column(table, _names("file", role), what)]
        times = (_column(table, _names(name, role), what) for name in (ONSET, OFFSET))
        stimuli += zip(files, *times, strict=True)
    count = table.frame.height
    return _distinct(stimuli, [table.source] * 3 * count, np.tile(table.numbers, 3), table.unit, count)


def _looked_up(table: Table, tables: Mapping[str, Table]) -> tuple[Items, list[npt.NDArray[np.int64]]]:
    wanted = [_column(table, _names("item", role), f"the stimulus {role}") for role in ROLES]
    prefixed = "" not in tables
    if prefixed:
        which = [_prefix(table, row, name, tables) for row, name in enumerate(_column(table, IDENTITY, "abx.stimuli"))]
    else:
        which = [""] * table.frame.height
    books = {prefix: _book(own, wanted) for prefix, own in tables.items()}
    stimuli, sources, numbers = [], [], []
    for role, names in zip(ROLES, wanted, strict=True):
        for row, (name, prefix) in enumerate(zip(names, which, strict=True)):
            found = books[prefix].get(name)
            if found is None:
                raise InputError(
                    f"{table.where(row)}: the stimulus {role} is '{name}', which is not in {tables[prefix].source}."
                )
            (file, onset, offset), source, number = found
            stimuli.append((f"{prefix}/{file}" if prefixed else file, onset, offset))
            sources.append(source)
            numbers.append(number)
    unit = next(iter(tables.values())).unit
    return _distinct(stimuli, sources, np.array(numbers), unit, table.frame.height)


def _tables(stimuli: Stimuli) -> dict[str, Table]:
    if isinstance(stimuli, Mapping):
        return {str(prefix): read_table(path) for prefix, path in stimuli.items()}
    if isinstance(stimuli, (str, os.PathLike)):
        return {"": read_table(stimuli)}
    tables = [read_table(path) for path in stimuli]
    if not tables:
        raise InputError("abx.stimuli is empty; give one table of stimuli, or one for each language.")
    sources = [table.source for table in tables for _ in range(table.frame.height)]
    numbers = np.concatenate([table.numbers for table in tables])
    frame = pl.concat([table.frame for table in tables], how="diagonal")
    return {"": Table(frame, " or ".join(table.source for table in tables), numbers, tables[0].unit, sources)}


Place = tuple[tuple[str, str, str], str, int]


def _book(table: Table, wanted: Sequence[Sequence[str]]) -> dict[str, Place]:
    """Where each stimulus of a table is, by the name that triplets use for it."""
    times = [_column(table, (name,), "a table of stimuli") for name in (ONSET, OFFSET)]
    files = [_stem(name) for name in _column(table, FILES, "a table of stimuli")]
    names = {name for role in wanted for name in role}
    keys = max(
        (key for key in KEYS if key in table.frame.columns),
        key=lambda key: len(names & set(table.frame[key].to_list())),
        default=KEYS[0],
    )
    book: dict[str, Place] = {}
    sources = table.sources or [table.source] * table.frame.height
    for row, (key, *place) in enumerate(zip(_column(table, (keys,), "a table of stimuli"), files, *times, strict=True)):
        if key in book and key in names and book[key][0] != tuple(place):
            raise InputError(
                f"{table.where(row)}: the stimulus '{key}' stands there a second time, unlike in {book[key][1]}, "
                f"{table.unit} {book[key][2]}; if each language has its own numbers, give abx.stimuli as a mapping "
                "from the beginning of the triplets' names: {FR: french.csv, EN: english.csv}."
            )
        book.setdefault(key, ((place[0], place[1], place[2]), sources[row], int(table.numbers[row])))
    return book


def _prefix(table: Table, row: int, name: str, tables: Mapping[str, Table]) -> str:
    fitting = [prefix for prefix in tables if name.removeprefix("triplet_").startswith(prefix)]
    if not fitting:
        raise InputError(
            f"{table.where(row)}: the name of the triplet '{name}' begins with none of the keys of abx.stimuli "
            f"({', '.join(tables)})."
        )
    return max(fitting, key=len)


def _distinct(
    stimuli: list[tuple[str, str, str]], sources: list[str], numbers: npt.NDArray[np.int64], unit: str, rows: int
) -> tuple[Items, list[npt.NDArray[np.int64]]]:
    """The distinct stimuli as items, and the item of each role in each row."""
    known: dict[tuple[str, str, str], int] = {}
    at = np.array([known.setdefault(stimulus, len(known)) for stimulus in stimuli], dtype=np.int64)
    first = np.unique(at, return_index=True)[1]
    frame = pl.DataFrame(list(known), schema=dict.fromkeys((FILE, ONSET, OFFSET), pl.String), orient="row")
    table = Table(frame, sources[0], numbers[first], unit, [sources[row] for row in first])
    return Items.of_table(table), [at[role * rows : (role + 1) * rows] for role in range(len(ROLES))]


def _triplets(table: Table, rows: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    stimuli = list(zip(*(row.tolist() for row in rows), strict=True))
    if not any(name in table.frame.columns for name in IDENTITY):
        known: dict[object, int] = {}
        return np.array([known.setdefault(three, len(known)) for three in stimuli], dtype=np.int64)
    numbers: dict[str, tuple[int, int]] = {}
    triplet = np.empty(len(stimuli), dtype=np.int64)
    for row, name in enumerate(_column(table, IDENTITY, "a triplet")):
        triplet[row], first = numbers.setdefault(name, (len(numbers), row))
        if stimuli[row] != stimuli[first]:
            raise InputError(
                f"{table.where(row)}: the triplet '{name}' has other stimuli here than in {table.where(first)}."
            )
    return triplet


def _names(part: str, role: str) -> tuple[str, ...]:
    return (
        (f"{part}_{role}", f"{role}_{part}", f"#{part}_{role}")
        if part == "file"
        else (f"{part}_{role}", f"{role}_{part}")
    )


def _stem(name: str) -> str:
    ending = Path(name).suffix
    return name.removesuffix(ending) if ending.lower() in AUDIO_ENDINGS else name
