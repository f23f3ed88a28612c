"""The files that tables or lists name, and the split of each."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from w2v_abx.clips import SPLITS
from w2v_abx.corpora.columns import Column, Row
from w2v_abx.corpora.tables import read_lines, read_rows
from w2v_abx.errors import InputError
from w2v_abx.system.text import leave_out, on_disk, read_text

__all__ = ["read_lists", "read_tables"]


def read_tables(
    tree: Path,
    tables: Mapping[str, str | None],
    file: Column,
    split: Column | None,
    needed: Sequence[str],
    *,
    quotes: bool = True,
    more: str | None = None,
    details: str | None = None,
) -> list[Row]:
    """The files that the tables of a corpus name, each once. Paths are relative to ``tree``.

    Args:
        tables: the split of all that a table names, by the table's path; ``None``: as ``split`` says.
        file: the column of audio files.
        split: the column of splits, or ``None``.
        needed: names of other columns that each table must have.
        quotes: whether quotation marks enclose values, rather than being characters like others.
        more: path of a table whose files are for training, but for those that ``tables`` name.
        details: path of a JSON file of more columns, ``{name of the audio file without ending: {column: value}}``,
            which may be absent; ``{table}`` in it is the name of the table without its ending.

    Raises `InputError`, naming table and line, for a row that does not fit.
    """
    found: dict[Path, Row] = {}
    for name, of_table in {**tables, **({more: "train"} if more else {})}.items():
        table = tree / Path(name).expanduser()
        known = _details(tree, details, table.stem)
        columns = [*file.needed, *needed, *(split.needed if split and not of_table else ())]
        setting = "corpus.more" if name == more else "corpus.table"
        wrong: list[str] = []
        right = 0
        for line, values in read_rows(table, columns, setting=setting, literal_quotes=not quotes):
            row = Row({"table": table.stem} | values, f"{table}, line {line}", more=name == more)
            try:
                path = on_disk(tree / _file(file, row))
            except InputError as error:
                wrong.append(str(error))
                continue
            row = row._replace(
                path=path,
                values={**known.get(path.stem, {}), **row.values},
                split=of_table or (_split(split, row) if split else None),
            )
            right += 1
            first = found.setdefault(path, row)
            if first is not row and not row.more:
                raise InputError(
                    f"{row.where} names the same file as {first.where}, {path.name}: give each file one row, with its "
                    "labels joined by |"
                )
        leave_out(wrong, right + len(wrong))
    if not any(not row.more for row in found.values()):
        raise InputError(f"{tree / next(iter(tables))} has a header but no rows")
    return list(found.values())


def _file(column: Column, row: Row) -> str:
    file = column.read(row)
    if not file:
        raise InputError(f"{row.where}: the column {column.text!r} is empty")
    return file


def _split(column: Column, row: Row) -> str:
    split = column.read(row)
    if split not in SPLITS:
        raise InputError(
            f"{row.where}: {column.text}={split!r} is no split: use {', '.join(SPLITS)}, or say in "
            "corpus.split_column.values which of them it is"
        )
    return split


def _details(tree: Path, details: str | None, table: str) -> dict[str, dict[str, Any]]:
    path = tree / (details or "").replace("{table}", table)
    if not details or not path.exists():
        return {}
    try:
        content = json.loads(read_text(path))
        return {str(name): dict(columns) for name, columns in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"corpus.details={path} is not JSON with columns for each file, {{name: {{column: value}}}} "
            f"({error!r}): fetch it again"
        ) from error


def read_lists(tree: Path, lists: Mapping[str, str]) -> Iterator[Row]:
    """The files that ``lists``, one path in each line, put into the split of the list.

    Raises `InputError`, naming list and line, for a path that leads out of ``tree``.
    """
    for name, split in lists.items():
        for number, line in read_lines(tree / name):
            where = f"{tree / name}, line {number}"
            if PurePosixPath(line).is_absolute() or ".." in PurePosixPath(line).parts:
                raise InputError(f"{where}: {line!r} leads out of {tree}")
            yield Row({}, where, on_disk(tree / line), split)
