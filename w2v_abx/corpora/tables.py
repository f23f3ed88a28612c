"""Tables and lists that describe audio, as programs and publishers write them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.items.tables import read_table
from w2v_abx.system.text import leave_out, read_text

__all__ = ["parse_lines", "read_lines", "read_rows"]

T = TypeVar("T")


def read_rows(
    table: Path, wanted: Sequence[str], *, setting: str = "", literal_quotes: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and values of each row of a CSV (``,``, ``;`` or tab) or TSV with a header, outer spaces removed.

    Rows that cannot be read are left out with a warning that counts them.

    Args:
        table: the file, as `w2v_abx.items.tables.read_table` reads it.
        wanted: columns that must be there, each once.
        setting: the configuration key that names the table, for messages (``corpus.table``).
        literal_quotes: quotation marks are characters like others.

    Raises `InputError`, naming the file and line, for one that is missing or cannot be read so, and for a column that
    is missing or doubled.
    """
    read = read_table(table, setting=setting, delimited=True, quotes=not literal_quotes, once=wanted)
    for column in wanted:
        if column not in read.frame.columns:
            raise InputError(f"{table} lacks the column {column!r}; its columns are: {', '.join(read.frame.columns)}")
    numbers, values = read.numbers.tolist(), read.frame.select(pl.all().fill_null("").str.strip_chars())
    del read  # which holds the table a second time
    yield from zip(numbers, values.iter_rows(named=True), strict=True)


def read_lines(path: Path, setting: str = "", otherwise: str = "") -> Iterator[tuple[int, str]]:
    """Number and text of each line of a file that is not blank, outer spaces removed.

    ``otherwise``: the encoding of a file that is neither UTF-8 nor UTF-16.

    Raises `InputError`, naming the file, when it is missing or cannot be read.
    """
    for number, line in enumerate(read_text(path, setting, otherwise).split("\n"), 1):
        if text := line.strip():
            yield number, text


def parse_lines(path: Path, parse: Callable[[str], T | None], setting: str = "", otherwise: str = "") -> list[T]:
    """What ``parse`` makes of each line that is not blank, of a file as `read_lines` reads it; ``None`` is passed over.

    Lines of which it raises `InputError` are left out with a warning that counts them. Raises `InputError`, naming the
    file and the first such line, where they outnumber the others.
    """
    found: list[T] = []
    wrong: list[str] = []
    for number, line in read_lines(path, setting, otherwise):
        try:
            if (one := parse(line)) is not None:
                found.append(one)
        except InputError as error:
            wrong.append(f"{path}, line {number}: {error}")
    leave_out(wrong, len(found) + len(wrong))
    return found
