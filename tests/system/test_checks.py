"""Values of settings: what passes is returned, and what does not is named with its key and what it may be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.errors import InputError
from w2v_abx.system import checks


@given(st.integers(1, 9))
def test_whole_numbers_in_range_pass(value):
    assert checks.whole("data.batch_size", value, 1, 9) is value


@pytest.mark.parametrize("value", [0, 10, True, 1.0, "4", None, math.nan])
def test_other_values_are_no_whole_number(value):
    with pytest.raises(InputError, match=r"^data\.batch_size=.* must be a whole number from 1 to 9; try 4$"):
        checks.whole("data.batch_size", value, 1, 9, hint="try 4")


@pytest.mark.parametrize("value", [0.0, 1, 0.5])
def test_numbers_in_range_pass(value):
    assert checks.number("share", value, low=0, high=1) is value


@pytest.mark.parametrize(
    ("bounds", "value", "range_"),
    [
        ({"above": 0}, 0, "above 0"),
        ({"low": 0}, -0.1, "at least 0"),
        ({"low": 0, "below": 1}, 1, "at least 0 and below 1"),
        ({"above": 0, "high": 1}, math.nan, "above 0 and at most 1"),
        ({"above": 0}, math.inf, "above 0"),
        ({"above": 0}, True, "above 0"),
        ({"above": 0}, "1", "above 0"),
        ({"above": 0}, None, "above 0"),
    ],
)
def test_numbers_out_of_range_say_the_range(bounds, value, range_):
    with pytest.raises(InputError, match=rf"must be a number of seconds {range_}$"):
        checks.number("thermal.period", value, unit="seconds", **bounds)


@pytest.mark.parametrize(
    "check",
    [
        lambda value: checks.whole("n", value, 1, optional="for no limit"),
        lambda value: checks.number("n", value, above=0, optional="for no limit"),
        lambda value: checks.choice("n", value, ["a"], optional="for no limit"),
    ],
)
def test_null_is_allowed_where_it_means_something(check):
    assert check(None) is None
    with pytest.raises(InputError, match=r", or null for no limit$"):
        check("b")


def test_choices_are_listed():
    assert checks.choice("model.train", "head", ["head", "all"]) == "head"
    with pytest.raises(InputError, match=r"^model\.train='tail' must be one of head, all$"):
        checks.choice("model.train", "tail", ["head", "all"])


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_only_true_and_false_are_booleans(value):
    assert checks.boolean("resume", True) is True
    with pytest.raises(InputError, match=r"^resume=.* must be true or false$"):
        checks.boolean("resume", value)


@pytest.mark.parametrize(("values", "chosen"), [(None, ["a", "b", "c"]), (["c", "a"], ["a", "c"]), (("b",), ["b"])])
def test_several_of_the_choices_come_in_their_order(values, chosen):
    assert checks.several("corpus.words", values, "abc", optional="for all") == chosen


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("a", r"corpus\.words='a' must be a list, such as \[a\], or null for all"),
        ([], r"must be a list of some of a, b, c, each once, or null for all$"),
        (["a", "d"], r"some of a, b, c, each once, or null for all; 'd' is none of them"),
        (["a", "a"], r"some of a, b, c, each once, or null for all$"),
    ],
)
def test_other_lists_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        checks.several("corpus.words", values, "abc", optional="for all")


def test_null_is_no_list_where_it_means_nothing():
    with pytest.raises(InputError, match=r"corpus\.words=None must be a list"):
        checks.several("corpus.words", None, "abc")
