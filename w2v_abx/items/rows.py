"""The lines of an ABX item file: which phones have a context, and how an item is written."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from w2v_abx.items.items import FILE, OFFSET, ONSET, Items
from w2v_abx.system import atomic

__all__ = ["COLUMNS", "Row", "neighboured", "row_of", "table_of", "write_rows"]

COLUMNS = (FILE, ONSET, OFFSET, "#phone", "prev-phone", "next-phone", "speaker")

Row = tuple[str, ...]


def neighboured(
    phones: Sequence[Any],
    words: Sequence[object] | None = None,
    exclude: Collection[str] = (),
    max_gap: float = float("inf"),
) -> Iterator[tuple[int, str]]:
    """The place of each phone with "", or with the reason why it lacks a neighbour: edge, pause or excluded.

    ``phones`` have ``onset``, ``offset`` and ``symbol``; ``words`` names the word of each, of which neighbours share
    one.
    """
    excluded = frozenset(exclude)
    for place, phone in enumerate(phones):
        if phone.symbol in excluded:
            yield place, "excluded"
            continue
        if not 0 < place < len(phones) - 1:
            yield place, "edge"
            continue
        before, after = phones[place - 1], phones[place + 1]
        gap = max(phone.onset - before.offset, after.onset - phone.offset)
        if words is not None and not words[place - 1] == words[place] == words[place + 1]:
            yield place, "edge"
        elif gap > max_gap or {before.symbol, after.symbol} & excluded:
            yield place, "pause"
        else:
            yield place, ""


def row_of(file: str, onset: float, offset: float, *labels: str) -> Row:
    """A line of an item file; times in seconds are rounded to the microsecond, and a zero has no sign."""
    times = (format(Decimal(str(round(time, 6) + 0.0)), "f") for time in (onset, offset))
    return (file, *times, *labels)


def write_rows(path: Path | str, columns: Sequence[str], rows: Collection[Row]) -> None:
    """Write an item file, atomically, its lines sorted as text; without rows, its header alone."""
    if rows:
        table_of(columns, rows).write(path)
    else:
        atomic.write_text(Path(path), " ".join(columns) + "\n")


def table_of(columns: Sequence[str], rows: Iterable[Row]) -> Items:
    """Items, their lines sorted as text."""
    ordered = sorted(rows, key=" ".join)
    return Items(pl.DataFrame(ordered, schema=dict.fromkeys(columns, pl.String), orient="row"))
