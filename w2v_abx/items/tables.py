"""Read tables of text (item files, CSV, JSON lines, parquet), every value with the digits it was written with."""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError

__all__ = ["Table", "as_text", "read_table"]

CSV_ENDINGS = (".csv", ".tsv")
JSON_ENDINGS = (".jsonl", ".ndjson")
LONGEST = 40  # digits that an exponent may stand for


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
    """

    frame: pl.DataFrame
    source: str
    numbers: npt.NDArray[np.int64]
    unit: str
    sources: Sequence[str] | None = None

    def where(self, row: int) -> str:
        """Where a row comes from, for messages: ``dev.csv, line 12``."""
        return f"{self.sources[row] if self.sources else self.source}, {self.unit} {self.numbers[row]}"

    @property
    def header(self) -> str:
        """Where the names of the columns stand, for messages."""
        return f"{self.source}, line 1" if self.unit == "line" else self.source


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table by the ending of its name.

    - ``.csv`` and ``.tsv``: fields in quotation marks where they hold the separator; that of a ``.csv`` is the comma,
      or if its header has none the tab or the semicolon, as some ``.csv`` files are published.
    - ``.jsonl`` and ``.ndjson``: an object a line, all with the same keys; numbers keep their digits.
    - ``.parquet``: floating-point numbers become the shortest decimal number that gives them back.
    - anything else: an item file, separated by tabs if its header has any, else by spaces.

    Blank lines are passed over. A column without a name is called ``Unnamed: 0`` by its place, as pandas does.

    Raises:
        InputError: the file cannot be read as what its name says; the message names the line.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _parquet(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read as a table: it is not UTF-8 text.") from error
    except OSError as error:
        raise InputError(f"The file {path} cannot be read: {error.strerror}.") from error
    if not text.strip():
        raise InputError(f"{path}, line 1: nothing stands in the file.")
    if ending in JSON_ENDINGS:
        return _json_lines(path, text)
    header = text.partition("\n")[0]
    marks = {".csv": ",\t;", ".tsv": "\t"}.get(ending, "\t")
    separator = next((mark for mark in marks if mark in header), marks[0] if ending in CSV_ENDINGS else None)
    if ending in CSV_ENDINGS and '"' in text:
        numbers, fields = _quoted(path, text, separator or ",")
    else:
        numbers, fields = _split(text.replace("\r\n", "\n").replace("\r", "\n"), separator)
    return _with_header(path, numbers, fields)


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
            return column.cast(pl.String)
    except pl.exceptions.PolarsError:
        pass
    raise InputError(f"The column '{column.name}' holds {column.dtype}, where one text or number a row is needed.")


def _split(text: str, separator: str | None) -> tuple[pl.Series, pl.Series]:
    """The number of each line that is not blank, and its fields, a list each; None separates at any space."""
    lines = pl.Series(text.split("\n"))
    fields = lines.str.extract_all(r"\S+") if separator is None else lines.str.split(separator)
    # The header is kept even where its names are blank. A CSV row of nothing but separators is blank, too.
    blank = lines.str.strip_chars(f" \t\r\f\v{separator or ''}") == ""
    numbers = (~blank | (pl.Series(range(len(lines))) == 0)).arg_true()
    return numbers + 1, fields.gather(numbers)


def _quoted(path: Path, text: str, separator: str) -> tuple[pl.Series, pl.Series]:
    """As `_split`, of rows with quotation marks, which may hold separators and line breaks."""
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=separator, strict=True)
    numbers, rows, number = [], [], 1
    try:
        for fields in reader:
            if number == 1 or any(field.strip() for field in fields):
                numbers.append(number)
                rows.append(fields)
            number = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {number}: this is not a CSV row: {error}.") from error
    return pl.Series(numbers), pl.Series(rows, dtype=pl.List(pl.String))


def _with_header(path: Path, numbers: pl.Series, fields: pl.Series) -> Table:
    header = fields[0].to_list() or [""]
    columns = [name if name.strip() else f"Unnamed: {place}" for place, name in enumerate(header)]
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}, line 1: each column needs a name of its own, but the header names {columns}.")
    numbers, fields = numbers[1:], fields[1:]
    counts = fields.list.len()
    wrong = (counts != len(columns)).arg_true()
    if len(wrong):
        number, count = numbers[wrong[0]], counts[wrong[0]]
        raise InputError(f"{path}, line {number}: {count} fields where the header names {len(columns)} columns.")
    frame = pl.DataFrame({name: fields.list.get(place) for place, name in enumerate(columns)})
    return Table(frame, str(path), numbers.cast(pl.Int64).to_numpy(), "line")


def _json_lines(path: Path, text: str) -> Table:
    decoder = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=Number, object_pairs_hook=_object)
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line.strip())
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: this is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: a line must be one JSON object, not {line.strip()[:60]!r}.")
        first = rows[0] if rows else row
        if differing := sorted(first.keys() ^ row.keys()):
            raise InputError(
                f"{path}, line {number}: all lines need the same keys, and this line "
                f"{'has' if differing[0] in row else 'lacks'} '{differing[0]}', unlike line {numbers[0]}."
            )
        rows.append(
            {key: _json_text(value, f"{path}, line {number}: the value of '{key}'") for key, value in row.items()}
        )
        numbers.append(number)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(rows[0] if rows else (), pl.String))
    return Table(frame, str(path), np.array(numbers, dtype=np.int64), "line")


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
    return Table(frame, str(path), np.arange(1, frame.height + 1), "row")
