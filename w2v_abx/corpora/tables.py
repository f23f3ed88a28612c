"""Tables that describe audio, as programs and publishers write them."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from w2v_abx.errors import InputError

__all__ = ["read_lines", "read_rows"]


def read_rows(
    table: Path, wanted: Sequence[str], *, setting: str = "", literal_quotes: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and values of each row of a CSV (``,``, ``;`` or tab) or TSV with a header, outer spaces removed.

    Args:
        table: the file, UTF-8.
        wanted: columns that must be there, each once.
        setting: the configuration key that names the table, for messages (``corpus.table``).
        literal_quotes: quotation marks are characters like others.

    Raises `InputError`, naming the file and line, for one that is missing or cannot be read so, a column that is
    missing or doubled, and a row that is longer or shorter than the header.
    """
    named = f"{setting}={table}" if setting else str(table)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            delimiter = "\t" if table.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
            reader = csv.reader(
                file,
                delimiter=delimiter,
                quoting=csv.QUOTE_NONE if literal_quotes else csv.QUOTE_MINIMAL,
                strict=True,
            )
            header = [name.strip() for name in next(reader, [])]
            for column in wanted:
                if header.count(column) != 1:
                    problem = "has twice" if column in header else "lacks"
                    raise InputError(
                        f"{table} {problem} the column {column!r}; its columns are: {', '.join(header) or 'none'}"
                    )
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(header):
                    raise InputError(
                        f"{table}, line {reader.line_num}: {len(values)} values where the header has {len(header)}"
                    )
                yield reader.line_num, dict(zip(header, (value.strip() for value in values), strict=True))
    except FileNotFoundError:
        raise InputError(f"{named} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{named} cannot be read as a UTF-8 CSV or TSV ({error})") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line of a UTF-8 file that is not blank, outer spaces removed.

    Raises `InputError`, naming the file, when it is missing or cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if text := line.strip():
                    yield number, text
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error})") from error
