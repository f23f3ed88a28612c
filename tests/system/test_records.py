"""Records whose fields are what they say, made of JSON that says one thing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.system.records import Checked, OneOf, Range, Text, strict_json


@dataclass(frozen=True)
class Inner(Checked):
    size: Annotated[int, Range(1, 9)]


@dataclass(frozen=True)
class Outer(Checked):
    name: Text
    kind: Annotated[str, OneOf(("a", "b"))]
    parts: tuple[Inner, ...]
    rest: Mapping[str, list[str]]
    free: Any = None


GOOD = {"name": "x", "kind": "a", "parts": [{"size": 1}], "rest": {"k": ["v"]}, "free": [None]}


def test_a_field_with_a_default_may_be_absent() -> None:
    assert Outer.made_of({name: value for name, value in GOOD.items() if name != "free"}).free is None


def test_a_record_of_json() -> None:
    assert Outer.made_of(GOOD | {"more": 1}) == Outer("x", "a", (Inner(1),), {"k": ["v"]}, [None])
    assert Outer.made_of(GOOD | {"free": 3}, free=4).free == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name is '', not a name of at most 1000 printable characters"),
        ({"name": "a\x1b[2J"}, "name is "),
        ({"name": "a" * 1001}, "name is "),
        ({"kind": "c"}, "kind is 'c', not one of a, b"),
        ({"parts": [{"size": True}]}, "size is True, not a whole number"),
        ({"parts": [{"size": 10}]}, "size is 10, not a whole number from 1 to 9"),
        ({"parts": [{}]}, "it lacks size"),
        ({"parts": [7]}, "7 stands where an object belongs"),
        ({"parts": {}}, r"parts is \{\}, not a list"),
        ({"rest": {"k": "v"}}, "rest.k is 'v', not a list"),
        ({"rest": {"k": ["v", 2]}}, r"rest.k\[1\] is 2, not a text"),
        ({"rest": []}, r"rest is \[\], not an object"),
    ],
)
def test_fields_of_another_kind(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Outer.made_of(GOOD | change)


@given(st.binary(max_size=20) | st.text(alphabet='[]{}",:0123456789eENaN\\\\ud8 ', max_size=20).map(str.encode))
def test_json_or_a_value_error(data: bytes) -> None:
    try:
        content = strict_json(data)
    except ValueError:
        return
    repr(content).encode()


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', "NaN", "-Infinity", "1e999", "[1" + "0" * 400 + ".5]", r'"\ud800"', "[" * 10**5, "9" * 5000],
)
def test_json_that_says_two_things_or_nothing(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        strict_json(text.encode())


def test_what_is_rare_is_not_refused() -> None:
    assert strict_json(rb'{"a": 1e300, "b": "1e999", "c": "\ud83d\ude00", "d": -2.5E+007}') == {
        "a": 1e300,
        "b": "1e999",
        "c": "\U0001f600",
        "d": -2.5e7,
    }
