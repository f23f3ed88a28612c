"""The files that tables or lists name, and the split of each."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from w2v_abx.clips import SPLITS
from w2v_abx.corpora.columns import Column, Row
from w2v_abx.corpora.tables import read_lines, read_rows
from w2v_abx.errors import InputError

__all__ = ["Listed", "Tables", "read_lists"]


class Listed(NamedTuple):
    """An audio file, what its table says of it, its split if that is said, and whether it is only `Tables.more`."""

    path: Path
    row: Row
    split: str | None = None
    more: bool = False


@dataclass(frozen=True)
class Tables:
    """The tables of a corpus. Paths are relative to its folder.

    Attributes:
        files: the split of all that a table names, by the table's path; ``None``: as ``split`` says.
        file: the column of audio files.
        split: the column of splits, or ``None``.
        needed: names of other columns that each table must have.
        quotes: whether quotation marks enclose values, rather than being characters like others.
        more: path of a table whose files are for training, but for those that ``files`` name.
        details: path of a JSON file of more columns, ``{name of the audio file without ending: {column: value}}``,
            which may be absent; ``{table}`` in it is the name of the table without its ending.
    """

    files: Mapping[str, str | None]
    file: Column
    split: Column | None
    needed: Sequence[str]
    quotes: bool = True
    more: str | None = None
    details: str | None = None

    def read(self, tree: Path) -> list[Listed]:
        """The files that the tables below ``tree`` name, each once.

        Raises `InputError`, naming table and line, for a row that does not fit.
        """
        found: dict[Path, Listed] = {}
        for name, split in self.files.items():
            for listed in self._rows(tree, name, split):
                first = found.setdefault(listed.path, listed)
                if first is not listed:
                    raise InputError(
                        f"{listed.row.where} names the same file as {first.row.where}, {listed.path.name}: give each "
                        "file one row, with its labels joined by |"
                    )
        if not found:
            raise InputError(f"{tree / next(iter(self.files))} has a header but no rows")
        if self.more:
            for listed in self._rows(tree, self.more, "train"):
                found.setdefault(listed.path, listed._replace(more=True))
        return list(found.values())

    def _rows(self, tree: Path, name: str, split: str | None) -> Iterator[Listed]:
        table = tree / Path(name).expanduser()
        details = self._details(tree, table.stem)
        columns = [*self.file.needed, *self.needed, *(self.split.needed if self.split and not split else ())]
        setting = "corpus.more" if name == self.more else "corpus.table"
        for line, values in read_rows(table, columns, setting=setting, literal_quotes=not self.quotes):
            row = Row({"table": table.stem} | values, f"{table}, line {line}")
            file = self.file.read(row)
            if not file:
                raise InputError(f"{row.where}: the column {self.file.text!r} is empty")
            path = tree / file
            if extra := details.get(path.stem):
                row = Row({**extra, **row.values}, row.where)
            yield Listed(path, row, split or self._split(row))

    def _split(self, row: Row) -> str | None:
        if self.split is None:
            return None
        split = self.split.read(row)
        if split not in SPLITS:
            raise InputError(
                f"{row.where}: {self.split.text}={split!r} is no split: use {', '.join(SPLITS)}, or say in "
                "corpus.split_column.values which of them it is"
            )
        return split

    def _details(self, tree: Path, table: str) -> dict[str, dict[str, Any]]:
        path = tree / (self.details or "").replace("{table}", table)
        if not self.details or not path.exists():
            return {}
        try:
            details = json.loads(path.read_text(encoding="utf-8"))
            return {str(name): dict(columns) for name, columns in details.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"corpus.details={path} is not JSON with columns for each file, {{name: {{column: value}}}} "
                f"({error!r}): fetch it again"
            ) from error


def read_lists(tree: Path, lists: Mapping[str, str]) -> Iterator[Listed]:
    """The files that ``lists``, one path in each line, put into the split of the list.

    Raises `InputError`, naming list and line, for a path that leads out of ``tree``.
    """
    for name, split in lists.items():
        for number, line in read_lines(tree / name):
            row = Row({}, f"{tree / name}, line {number}")
            if PurePosixPath(line).is_absolute() or ".." in PurePosixPath(line).parts:
                raise InputError(f"{row.where}: {line!r} leads out of {tree}")
            yield Listed(tree / line, row, split)
