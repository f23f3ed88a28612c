"""What the columns of a table say of a clip."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from w2v_abx.errors import InputError
from w2v_abx.system.checks import fail
from w2v_abx.system.text import nfc

__all__ = ["Column", "Row", "regex"]

FIELD = re.compile(r"\{([^{}]*)\}")


class Row(NamedTuple):
    """An audio file and what a table, or nothing but its own name, says of it.

    ``where`` the row stands is for messages: ``labels.csv, line 3``. ``split``: the file's, if that is said. ``more``:
    the file is for training only.
    """

    values: Mapping[str, Any]
    where: str
    path: Path = Path()
    split: str | None = None
    more: bool = False


@dataclass(frozen=True)
class Column:
    """How a value is read from a table's row.

    Attributes:
        text: name of the column, or a path with the names of columns in braces (``audio/{fold}/{name}.wav``), whose
            values must be plain names. ``{table}`` is the name of the table's file without its ending.
        others: names of columns, of which the first that says something is taken; none need be there. Instead of text.
        values: patterns and what takes the place of a value that one fits wholly, the first of them: a text with groups
            as in `re.sub`; an empty one leaves the value out. A value that none fits stays.
        separators: characters between the values of a list; none: there is one value.
    """

    text: str = ""
    others: tuple[str, ...] = ()
    values: tuple[tuple[re.Pattern[str], str], ...] = ()
    separators: str = ""

    @classmethod
    def parse(cls, setting: str, given: str | Sequence[str] | Mapping[str, Any], separators: str = "") -> "Column":
        """Read a setting: a name, names, or ``{column, values, separator}``; `InputError` names what does not fit."""
        form: Mapping[str, Any] = given if isinstance(given, Mapping) else {"column": given}
        column, values = form.get("column"), form.get("values") or {}
        if not column or set(form) - {"column", "values", "separator"} or not isinstance(values, Mapping):
            raise fail(setting, given, "a column's name, a list of names, or {column, values, separator}")
        patterns = tuple((regex(f"{setting}.values", str(key)), str(to or "")) for key, to in values.items())
        separators = form.get("separator") or separators
        if isinstance(column, str):
            return cls(column, values=patterns, separators=separators)
        return cls(others=tuple(column), values=patterns, separators=separators)

    @property
    def needed(self) -> list[str]:
        """The columns that a table must have."""
        names = FIELD.findall(self.text) or [self.text]
        return [name for name in names if name not in ("", "table")]

    def read(self, row: Row) -> str:
        """The value; empty where the row says nothing. Raises `InputError` for a path's part that is no plain name."""
        return self._translate(self._said(row))

    def read_list(self, row: Row) -> list[str]:
        """The values, where there may be several."""
        return self.split(self._said(row))

    def split(self, text: str) -> list[str]:
        """The values of a list."""
        values = re.split(f"[{re.escape(self.separators)}]", text) if self.separators else [text]
        return [known for value in values if (known := self._translate(value.strip()))]

    def _said(self, row: Row) -> str:
        if FIELD.search(self.text):
            return FIELD.sub(lambda match: _plain(row, match[1]), self.text)
        said = (str(row.values.get(name, "")) for name in (self.text, *self.others))
        return next(filter(None, said), "")

    def _translate(self, value: str) -> str:
        for pattern, to in self.values:
            if match := pattern.fullmatch(value):
                return match.expand(to)
        return value


def _plain(row: Row, column: str) -> str:
    name = str(row.values[column])
    if not name or name == ".." or PurePosixPath(name).name != name:
        raise InputError(f"{row.where}: {name!r} is not the name of a file, without a folder (column {column!r})")
    return name


def regex(setting: str, pattern: str) -> re.Pattern[str]:
    """A setting's regular expression; `InputError` where it is none."""
    try:
        return re.compile(nfc(pattern))
    except re.error as error:
        raise InputError(f"{setting}={pattern!r} is not a regular expression ({error})") from error
