"""Check what comes from elsewhere, JSON and the records made of it, before anything is done with it."""

import json
import math
import re
import reprlib
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, Self, cast, get_args, get_origin, get_type_hints

__all__ = ["Checked", "Form", "OneOf", "Range", "Text", "strict_json"]

MAX_CHARACTERS = 1000  # of a name
KINDS = {str: "a text", int: "a whole number", Mapping: "an object", tuple: "a list", list: "a list"}
# Half a character, or a number that may be too large for one: what needs a second look.
UNUSUAL = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?\d{3}|\d{300}")


@dataclass(frozen=True)
class Range:
    """A whole number from ``low`` to ``high``, both included."""

    low: int
    high: int

    def holds(self, value: int) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Form:
    """A text that matches ``pattern``, and the words for it."""

    pattern: re.Pattern[str]
    words: str

    def holds(self, value: str) -> bool:
        return self.pattern.fullmatch(value) is not None

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class OneOf:
    """One of some texts."""

    values: tuple[str, ...]

    def holds(self, value: str) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


class _Plain:
    """A name that may be shown: of some characters, none of which moves a cursor."""

    def holds(self, value: str) -> bool:
        return 0 < len(value) <= MAX_CHARACTERS and value.isprintable()

    def __str__(self) -> str:
        return f"a name of at most {MAX_CHARACTERS} printable characters"


Text = Annotated[str, _Plain()]


class Checked:
    """A dataclass whose fields hold what their annotations say, or that is not made: then `ValueError`.

    Annotations are of ``Any``, classes (``True`` is no ``int``), ``Mapping``, ``tuple[…, ...]`` and ``list``
    of these, and ``Annotated`` with what has ``holds(value)``, such as `Range`.
    """

    def __post_init__(self) -> None:
        for name, kind in _fields(cast(Any, type(self))).items():
            _check(name, getattr(self, name), kind)

    @classmethod
    def made_of(cls, content: Any, **given: Any) -> Self:
        """Make one of a JSON object, records in it included; what it has no field for is passed over.

        ``given``: fields that are not taken from there. Raises `ValueError` for what makes none.
        """
        if not isinstance(content, Mapping):
            raise ValueError(f"{reprlib.repr(content)} stands where an object belongs")
        content, kinds = {**content, **given}, _fields(cast(Any, cls))
        needed = [field.name for field in fields(cast(Any, cls)) if field.default is field.default_factory is MISSING]
        if lacking := [name for name in needed if name not in content]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        return cls(**{name: _made(content[name], kind) for name, kind in kinds.items() if name in content})


def strict_json(data: bytes) -> Any:
    """Parse JSON in UTF-8; raises `ValueError` for anything that another reader may take for something else.

    That is: a key twice in one object, NaN, an infinity (``1e999`` too), half a character, and what nests too deep.
    """
    try:
        unusual = UNUSUAL.search(data) is not None
        content = json.loads(
            data.decode(),
            object_pairs_hook=_distinct,
            parse_constant=_finite,
            parse_float=_finite if unusual else None,
        )
        if unusual:
            json.dumps(content, ensure_ascii=False).encode()  # raises for half a character
    except RecursionError:
        raise ValueError("it nests too deep") from None
    return content


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has the key {reprlib.repr(max(names, key=names.count))} twice")
    return content


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{reprlib.repr(text)} is no finite number")
    return number


def _made(value: Any, kind: Any) -> Any:
    """Make records, and tuples of them, of JSON; `_check` sees to the rest."""
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_made(entry, get_args(kind)[0]) for entry in value)
    return kind.made_of(value) if isinstance(kind, type) and issubclass(kind, Checked) else value


@cache
def _fields(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _check(where: str, value: Any, kind: Any) -> None:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if kind is Any:
        return
    if origin is Annotated:
        _check(where, value, inner[0])
        for rule in inner[1:]:
            if not rule.holds(value):
                raise ValueError(f"{where} is {reprlib.repr(value)}, not {rule}")
    elif not isinstance(value, origin) or (isinstance(value, bool) and kind is int):
        raise ValueError(f"{where} is {reprlib.repr(value)}, not {KINDS.get(origin, origin.__name__)}")
    elif origin is Mapping:
        for key, entry in value.items():
            _check(f"a name in {where}", key, inner[0])
            _check(f"{where}.{key}", entry, inner[1])
    elif inner:  # tuple[kind, ...], list[kind]
        for number, entry in enumerate(value):
            _check(f"{where}[{number}]", entry, inner[0])
