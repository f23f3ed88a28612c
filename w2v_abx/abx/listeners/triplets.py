"""Read listener triplets: stimuli TGT, OTH and X as an experiment played them, instead of triplets built from cells."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, OFFSET, ONSET, Items
from w2v_abx.items.names import bare
from w2v_abx.items.tables import Table, read_table

__all__ = ["ListenerTriplets", "Stimuli"]

ROLES = ("TGT", "OTH", "X")
IDENTITY = ("triplet_id", "filename", "tripletid")
KEYS = ("index", "#file_extract", FILE, "file")  # of a table of stimuli, by which triplets name them
FILES = (FILE, "file", "#file_source")

Stimuli = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]
# The file, onset and offset of a stimulus, and the table and row that say so.
Place = tuple[tuple[str, str, str], Table, int]


@dataclass(frozen=True, eq=False)
class ListenerTriplets:
    """Triplets of stimuli, a row each, or a row for each response to one.

    X is of the same category as TGT, and OTH is of the other.

    Attributes:
        items: the distinct stimuli.
        stimuli: (3, N) the items of each row's TGT, OTH and X.
        triplet: (N,) the number of each row's triplet, from 0 in the order in which they first come.
        table: N rows, every column as published, as text.
    """

    items: Items
    stimuli: npt.NDArray[np.int64]
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
        places = _spelt_out(table) if stimuli is None else _looked_up(table, _tables(stimuli))
        known: dict[tuple[str, str, str], int] = {}
        at = np.array([known.setdefault(stimulus, len(known)) for stimulus, *_ in places], dtype=np.int64)
        first = [places[row] for row in np.unique(at, return_index=True)[1]]
        frame = pl.DataFrame(list(known), schema=dict.fromkeys((FILE, ONSET, OFFSET), pl.String), orient="row")
        sources = [own.source for _, own, _ in first]
        numbers = np.array([own.numbers[row] for _, own, row in first])
        items = Items.of_table(Table(frame, sources[0], numbers, first[0][1].unit, sources))
        rows = at.reshape(len(ROLES), -1)
        return cls(items, rows, _triplets(table, rows), table)


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


def _spelt_out(table: Table) -> list[Place]:
    """The stimuli whose places the triplets give, of all rows: TGT, then OTH, then X."""
    columns = table.frame.columns
    if not any(name in columns for role in ROLES for name in _names("onset", role)) and "TGT_item" in columns:
        raise InputError(
            f"{table.header}: these triplets name their stimuli by TGT_item, OTH_item and X_item; give the table that "
            "says where those are (index, #file, onset, offset) with abx.stimuli."
        )
    places: list[Place] = []
    for role in ROLES:
        file, *times = (_column(table, _names(part, role), f"the stimulus {role}") for part in ("file", ONSET, OFFSET))
        stimuli = zip(map(bare, file), *times, strict=True)
        places += [(stimulus, table, row) for row, stimulus in enumerate(stimuli)]
    return places


def _looked_up(table: Table, tables: Mapping[str, Sequence[Table]]) -> list[Place]:
    """The stimuli that triplets name, by ``tables`` of them for the beginnings of triplets' names."""
    wanted = {role: _column(table, _names("item", role), f"the stimulus {role}") for role in ROLES}
    prefixes = [""] * table.frame.height
    if "" not in tables:
        names = _column(table, IDENTITY, "abx.stimuli")
        prefixes = [_prefix(table, row, name, tables) for row, name in enumerate(names)]
    used = {name for names in wanted.values() for name in names}
    books = {prefix: _book(own, used) for prefix, own in tables.items()}
    places: list[Place] = []
    for role, names in wanted.items():
        for row, (name, prefix) in enumerate(zip(names, prefixes, strict=True)):
            if name not in books[prefix]:
                sources = " or ".join(own.source for own in tables[prefix])
                raise InputError(f"{table.where(row)}: the stimulus {role} is '{name}', which is not in {sources}.")
            (file, onset, offset), own, at = books[prefix][name]
            places.append(((f"{prefix}/{file}" if prefix else file, onset, offset), own, at))
    return places


def _tables(stimuli: Stimuli) -> dict[str, list[Table]]:
    if isinstance(stimuli, Mapping):
        return {str(prefix): [read_table(path)] for prefix, path in stimuli.items()}
    paths = [stimuli] if isinstance(stimuli, (str, os.PathLike)) else stimuli
    if not paths:
        raise InputError("abx.stimuli is empty; give one table of stimuli, or one for each language.")
    return {"": [read_table(path) for path in paths]}


def _book(tables: Sequence[Table], used: set[str]) -> dict[str, Place]:
    """Where each stimulus of some tables is, by the name that triplets use for it."""
    book: dict[str, Place] = {}
    for table in tables:
        *times, file = (_column(table, names, "a table of stimuli") for names in ((ONSET,), (OFFSET,), FILES))
        shared = {key: len(used & set(table.frame[key])) for key in KEYS if key in table.frame.columns}
        names = _column(table, (max(shared, key=shared.__getitem__, default=KEYS[0]),), "a table of stimuli")
        for row, (name, *stimulus) in enumerate(zip(names, map(bare, file), *times, strict=True)):
            place: Place = (stimulus[0], stimulus[1], stimulus[2]), table, row
            known = book.setdefault(name, place)
            if name in used and known[0] != place[0]:
                raise InputError(
                    f"{table.where(row)}: the stimulus '{name}' stands there a second time, unlike in "
                    f"{known[1].where(known[2])}; if each language has its own numbers, give abx.stimuli as a mapping "
                    "from the beginning of the triplets' names: {FR: french.csv, EN: english.csv}."
                )
    return book


def _prefix(table: Table, row: int, name: str, tables: Iterable[str]) -> str:
    fitting = [prefix for prefix in tables if name.removeprefix("triplet_").startswith(prefix)]
    if not fitting:
        raise InputError(
            f"{table.where(row)}: the name of the triplet '{name}' begins with none of the keys of abx.stimuli "
            f"({', '.join(tables)})."
        )
    return max(fitting, key=len)


def _triplets(table: Table, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The number of each row's triplet."""
    stimuli = rows.T.tolist()
    if not any(name in table.frame.columns for name in IDENTITY):
        known: dict[object, int] = {}
        return np.array([known.setdefault(tuple(three), len(known)) for three in stimuli], dtype=np.int64)
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
    return f"{part}_{role}", f"{role}_{part}", f"#{part}_{role}"
