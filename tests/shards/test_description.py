"""What a shard may say of a clip: anything else is an `InputError` that names the shard and the clip."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.data.crops import labels_within
from w2v_abx.errors import InputError
from w2v_abx.shards.description import check_labels, parse_description

SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
ENTRY = SCALAR | st.lists(SCALAR, max_size=4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "\xff",
        '{"labels": {}}',
        '{"samples": 9}',
        '{"samples": 0, "labels": {}}',
        '{"samples": -1, "labels": {}}',
        '{"samples": true, "labels": {}}',
        '{"samples": 9.0, "labels": {}}',
        '{"samples": NaN, "labels": {}}',
        '{"samples": 1e999, "labels": {}}',
        '{"samples": "9", "labels": {}}',
        '{"samples": 4294967296, "labels": {}}',
        '{"samples": 4294967295, "labels": {}}',  # in 1000 bytes
        '{"samples": %s, "labels": {}}' % ("9" * 5000),
        '{"samples": 9, "samples": 8, "labels": {}}',
        '{"samples": 9, "labels": {"a": 1, "a": 2}}',
        '{"samples": 9, "labels": [1, 2]}',
        '{"samples": 9, "labels": null}',
        '{"samples": 9, "labels": {"level": Infinity}}',
        '{"samples": 9, "labels": {"level": -1e400}}',
        '{"samples": 9, "labels": {"speaker": "\\udfff"}}',
        '{"samples": 9, "labels": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":' * 100_000,
    ],
)
def test_what_is_no_description(text: str) -> None:
    with pytest.raises(InputError, match=r"^s\.tar: k\.json is not a clip's description \("):
        parse_description("s.tar", "k", text.encode("latin-1"), 1000)


@pytest.mark.parametrize(
    "entry",
    [
        ["NaN", 1, "a"],
        [0, 1],
        [0, 1, 2],
        [0, 1, None],
        [1, 0, "a"],
        [-1, 0, "a"],
        [0, 10**400, "a"],
        [0, float("nan"), "a"],
        [0, float("inf"), "a"],
        [True, 2, "a"],
        [[0], 1, "a"],
        "a",
    ],
)
def test_a_time_that_is_none(entry: Any) -> None:
    with pytest.raises(ValueError, match="in the label 'phones' is not"):
        check_labels({"speaker": "s", "phones": [[0.0, 0.1, "a"], entry]})


@given(st.dictionaries(st.text(max_size=3), SCALAR | st.lists(ENTRY, max_size=3), max_size=3))
def test_labels_that_pass_can_be_cut(labels: dict[str, Any]) -> None:
    try:
        _, found = parse_description("s.tar", "k", json.dumps({"samples": 9, "labels": labels}).encode(), 9)
    except InputError:
        return
    cut = labels_within(found, 4000, 16000)
    check_labels(cut)
    assert cut.keys() == labels.keys()
