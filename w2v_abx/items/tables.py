"""Read tables of text (item files, CSV, JSON lines, parquet), every value with the digits it was written with."""

import csv
import json
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.system.text import NAMED, leave_out, read_text

__all__ = ["Table", "as_text", "read_table"]

CSV_ENDINGS = (".csv", ".tsv")
JSON_ENDINGS = (".jsonl", ".ndjson")
LONGEST = 40  # digits that an exponent may stand for
# A field: a text behind enclosed ones, what marks enclose, or what begins with none; @ is the separator.
QUOTED = r'(?:"(?:[^"@]|"")*"[^"@][^@]*|"(?:[^"]|"")*"|[^"@][^@]*|)'
ENCLOSED = r'^"((?:[^"]|"")*)"$'


class Number(str):
    """A number of a JSON file, as written."""


@dataclass(frozen=True)
class Table:
    """A table whose columns are all strings, or null where nothing stands.

    Attributes:
        frame: the table.
        source: what it was read from.
        numbers: (N,) the line of each row, or its number in a parquet file.
        unit: "line" or "row".
        sources: what each row was read from, where that is not one file.
        strict: a row that cannot be used is an error; else it is left out, as people's files hold some.
    """

    frame: pl.DataFrame
    source: str
    numbers: npt.NDArray[np.int64]
    unit: str
    sources: Sequence[str] | None = None
    strict: bool = True

    def where(self, row: int) -> str:
        """Where a row comes from, for messages: ``dev.csv, line 12``."""
        return f"{self.sources[row] if self.sources else self.source}, {self.unit} {self.numbers[row]}"

    @property
    def header(self) -> str:
        """Where the names of the columns stand, for messages."""
        return f"{self.source}, line 1" if self.unit == "line" else self.source

    def without(self, bad: npt.NDArray[np.bool_], why: Callable[[int], str]) -> Self:
        """The table without the rows that are ``bad``, which a warning counts; ``why`` says what is wrong with one.

        Raises:
            InputError: some row is bad and the table ``strict``, or the bad ones outnumber the others: then it is no
                such table. The message names the first.
        """
        rows = np.flatnonzero(bad)
        if not len(rows):
            return self
        named = [f"{self.where(row)}: {why(row)}" for row in rows[:NAMED].tolist()]
        if self.strict:
            raise InputError(named[0])
        leave_out(named, len(bad), len(rows))
        return self.take(np.flatnonzero(~bad))

    def take(self, rows: npt.NDArray[np.int64]) -> Self:
        """Some of its rows."""
        sources = None if self.sources is None else [self.sources[row] for row in rows.tolist()]
        return replace(self, frame=self.frame[rows], numbers=self.numbers[rows], sources=sources)


def read_table(
    path: str | os.PathLike[str],
    *,
    setting: str = "",
    delimited: bool = False,
    quotes: bool = True,
    once: Collection[str] | None = None,
) -> Table:
    """Read a table by the ending of its name.

    - ``.csv`` and ``.tsv``: fields in quotation marks where they hold the separator; that of a ``.csv`` is the comma,
      the tab or the semicolon, whichever its header has most of, as some ``.csv`` files are published. A quotation mark
      at the start of a field that does not close at the end of one is a character like others.
    - ``.jsonl`` and ``.ndjson``: an object a line, all with the same keys; numbers keep their digits.
    - ``.parquet``: floating-point numbers become the shortest decimal number that gives them back.
    - anything else: an item file, separated by tabs if its header has any, else by spaces; with ``delimited``, as .csv.

    Blank lines are passed over. A column without a name is called ``Unnamed: 0`` by its place, as pandas does. Rows
    that cannot be read, with too few fields for instance, are left out with a warning that counts them; see `Table`.

    Args:
        path: the file, in UTF-8 or UTF-16; characters are composed (NFC).
        setting: the configuration key that names the table, for messages (``corpus.table``).
        quotes: whether quotation marks enclose fields, rather than being characters like others.
        once: columns that must not be there twice; ``None``: none may.

    Raises:
        InputError: the file cannot be read as what its name says, or more of its rows cannot be read than can; the
            message names the line.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _parquet(path)
    text = read_text(path, setting)
    if not text.strip():
        raise InputError(f"{path}, line 1: nothing stands in the file.")
    if ending in JSON_ENDINGS:
        return _json_lines(path, text)
    header = text.partition("\n")[0]
    if ending == ".tsv":
        separator: str | None = "\t"
    elif delimited or ending in CSV_ENDINGS:
        separator = max(",\t;", key=header.count)
    else:
        separator, quotes = "\t" if "\t" in header else None, False
    lines = pl.Series(text.split("\n"))
    if quotes and separator and '"' in text:
        rows, fields = _quoted(lines, separator)
    else:
        rows = _filled(lines, separator)
        fields = _split(lines.gather(rows), separator)
    return _with_header(path, rows + 1, fields, once)


def as_text(column: pl.Series) -> pl.Series:
    """A column as strings. Raises InputError for one that does not hold one value a row."""
    if column.dtype.is_float():
        # str of a numpy float has the fewest digits that give it back, in its own precision; Decimal writes them
        # without an exponent.
        values = zip(column.is_null(), column.to_numpy(), strict=True)
        texts = [None if null else format(Decimal(str(value)), "f") for null, value in values]
        return pl.Series(column.name, texts, dtype=pl.String)
    try:
        if not column.dtype.is_nested():
            return column.cast(pl.String).str.normalize("NFC")
    except pl.exceptions.PolarsError:
        pass
    raise InputError(f"The column '{column.name}' holds {column.dtype}, where one text or number a row is needed.")


def _filled(lines: pl.Series, separator: str | None) -> pl.Series:
    """The places of lines that are not blank; a row of nothing but separators is, too."""
    blank = lines.str.strip_chars(f" \t\r\f\v{separator or ''}") == ""
    return (~blank | (pl.Series(range(len(lines))) == 0)).arg_true()  # the header may have blank names alone


def _split(texts: pl.Series, separator: str | None) -> pl.Series:
    """The fields of each line, a list; None separates at any space."""
    return texts.str.extract_all(r"\S+") if separator is None else texts.str.split(separator)


def _quoted(lines: pl.Series, separator: str) -> tuple[pl.Series, pl.Series]:
    """The first lines of all rows, and their fields: those in which a quotation mark does not close are looked at one
    by one, and are few.
    """
    rows = _filled(lines, separator)
    texts = lines.gather(rows)
    quoted = texts.str.contains('"', literal=True)
    field = QUOTED.replace("@", separator)
    closed = texts.str.contains(f"^{field}(?:{separator}{field})*$")
    unquoted = pl.element().str.strip_prefix(separator).str.extract(ENCLOSED).str.replace_all('""', '"')
    inner = unquoted.fill_null(pl.element().str.strip_prefix(separator))
    alone, plain = (quoted & closed).arg_true(), (~quoted).arg_true()
    found = (separator + texts.gather(alone)).str.extract_all(separator + field).list.eval(inner)
    found = pl.concat([_split(texts.gather(plain), separator), found])
    places = rows.gather(pl.concat([plain, alone]))
    if not closed.all():
        odd = _joined(lines.to_list(), rows.gather((~closed).arg_true()).to_list(), separator)
        taken = pl.Series([line for begin, (stop, _) in odd.items() for line in range(begin, stop)], dtype=rows.dtype)
        kept = (~places.is_in(taken.implode())).arg_true()
        own = pl.Series([fields for _, fields in odd.values()], dtype=found.dtype)
        places = pl.concat([places.gather(kept), pl.Series(list(odd), dtype=rows.dtype)])
        found = pl.concat([found.gather(kept), own])
    order = places.arg_sort()
    return places.gather(order), found.gather(order)


def _joined(lines: Sequence[str], odd: Sequence[int], separator: str) -> dict[int, tuple[int, list[str]]]:
    """Of the first line of each row that has several, or has a quotation mark that does not close: the line after the
    row, and its fields.

    Where all rows of the file are as wide as its header when read as CSV is to be, that is how it is read. Else a field
    goes on in the next lines if it makes its own row as wide, and these are not rows of their own.
    """
    width = len(_literal(lines[0], separator))
    found: dict[int, tuple[int, list[str]]] = {}
    begin = 0
    try:
        reader = _reader(lines, 0, separator)
        for fields in reader:
            if reader.line_num > begin + 1:
                found[begin] = reader.line_num, fields
            ragged = len(fields) != width and bool("".join(fields).strip())
            if ragged or _swallows(lines, begin, reader.line_num, separator, width):
                raise csv.Error
            begin = reader.line_num
        return found
    except csv.Error:
        found.clear()
    done = 0
    for begin in odd:
        if begin < done:
            continue
        reader = _reader(lines, begin, separator)
        try:
            fields = next(reader)
        except csv.Error:
            fields = []
        done = begin + reader.line_num
        if len(fields) != width or _swallows(lines, begin, done, separator, width):
            fields, done = _literal(lines[begin], separator), begin + 1
        found[begin] = done, fields
    return found


def _reader(lines: Sequence[str], begin: int, separator: str) -> Any:
    """Read rows of CSV from a line on, as strictly as its definition is."""
    rest = (f"{lines[line]}\n" for line in range(begin, len(lines)))
    return csv.reader(rest, delimiter=separator, strict=True)


def _swallows(lines: Sequence[str], begin: int, stop: int, separator: str, width: int) -> bool:
    """Whether a quotation mark that does not close makes one row of several: all lines between are rows, too."""
    between = range(begin + 1, stop - 1)
    return len(between) > 2 and all(len(_literal(lines[line], separator)) == width for line in between)


def _literal(line: str, separator: str) -> list[str]:
    """The fields of one line; quotation marks that do not enclose one are characters like others."""
    field = rf'{separator}(?:"([^"]*(?:""[^"]*)*)"(?=$|{separator})|([^{separator}]*))'
    found = re.finditer(field, separator + line)
    return [match[2] if match[1] is None else match[1].replace('""', '"') for match in found]


def _with_header(path: Path, numbers: pl.Series, fields: pl.Series, once: Collection[str] | None) -> Table:
    header = [name.strip() for name in fields[0].to_list()] or [""]
    columns = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    twice = {name for name in columns if columns.count(name) > 1}
    if twice if once is None else twice & set(once):
        raise InputError(f"{path}, line 1: each column needs a name of its own, but the header names {columns}.")
    columns = [f"{name}.{place}" if name in twice else name for place, name in enumerate(columns)]
    rows, lines = pl.DataFrame({"fields": fields[1:]}), numbers[1:].cast(pl.Int64).to_numpy()
    counts = rows["fields"].list.len().to_numpy()
    table = Table(rows, str(path), lines, "line", strict=False).without(
        counts != len(columns), lambda row: f"{counts[row]} fields where the header names {len(columns)} columns."
    )
    fields = table.frame["fields"]
    return replace(table, frame=pl.DataFrame({name: fields.list.get(place) for place, name in enumerate(columns)}))


def _json_lines(path: Path, text: str) -> Table:
    decoder = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=Number, object_pairs_hook=_object)
    rows: list[dict[str, str | None]] = []
    wrong: dict[int, str] = {}
    numbers: list[int] = []
    keys: set[str] = set()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        numbers.append(number)
        rows.append({})
        try:
            row = decoder.decode(line.strip())
            if not isinstance(row, dict):
                raise InputError(f"a line must be one JSON object, not {line.strip()[:60]!r}.")
            keys = keys or set(row)
            if differing := sorted(keys ^ set(row)):
                has = "has" if differing[0] in row else "lacks"
                raise InputError(f"all lines need the same keys, and this one {has} '{differing[0]}'.")
            rows[-1] = {key: _json_text(value, f"the value of '{key}'") for key, value in row.items()}
        except InputError as error:
            wrong[len(rows) - 1] = str(error)
        except (ValueError, RecursionError) as error:
            wrong[len(rows) - 1] = f"this is not JSON: {error}."
    frame = pl.DataFrame(rows, schema=dict.fromkeys(next(filter(None, rows), ()), pl.String))
    frame = frame.with_columns(pl.all().str.normalize("NFC"))  # of characters that were written as \\u0301
    table = Table(frame, str(path), np.array(numbers, dtype=np.int64), "line", strict=False)
    bad = np.zeros(len(rows), dtype=bool)
    bad[list(wrong)] = True
    return table.without(bad, wrong.__getitem__)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' stands there twice")
    "".join(text for pair in pairs for text in pair if isinstance(text, str)).encode()  # half a character is an error
    return found


def _json_text(value: Any, what: str) -> str | None:
    if isinstance(value, (dict, list)):
        raise InputError(f"{what} is a JSON {'object' if isinstance(value, dict) else 'array'}, where one text or "
                         "number is needed.")  # fmt: skip
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Number) and "e" in value.lower():
        exact = Decimal(value)
        return format(exact, "f") if abs(exact.adjusted()) < LONGEST else str(value)
    return None if value is None else str(value)


def _parquet(path: Path) -> Table:
    try:
        frame = pl.read_parquet(path, hive_partitioning=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} cannot be read as a parquet file: {str(error).splitlines()[0]}.") from error
    try:
        frame = frame.select(as_text(frame[name]) for name in frame.columns)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Table(frame, str(path), np.arange(1, frame.height + 1), "row", strict=False)
