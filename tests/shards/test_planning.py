"""What goes into which shard, under which name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import Fixed

from w2v_abx.audio import Cleaning
from w2v_abx.clips import Clip
from w2v_abx.errors import InputError
from w2v_abx.shards import prepare
from w2v_abx.shards.planning import member_names


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), unique=True))
def test_names_in_a_shard_are_distinct_and_plain(keys: list[str]) -> None:
    names = member_names(keys)
    assert len(set(names.values())) == len(keys)
    assert all(name and not set(name) & set("./\\ \0\n") for name in names.values())


def test_a_name_that_is_that_of_another_with_its_hash() -> None:
    keys = ["a b", "a.b", member_names(["a b", "a.b"])["a b"]]
    assert len(set(member_names(keys).values())) == 3


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Clip("a", Path("a.wav"), start=float("nan")), "a is no span of a.wav: it goes from nan to None s"),
        (Clip("a", Path("a.wav"), end=float("inf")), "a is no span of a.wav: it goes from 0.0 to inf s"),
        (Clip("a", Path("caf\udce9.wav")), r"caf\\udce9.wav' has a name that is not UTF-8: rename it"),
    ],
)
def test_clips_that_cannot_be_told(tmp_path: Path, clip: Clip, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(Fixed([clip]), tmp_path / "out")


def test_what_has_times_is_not_trimmed(tmp_path: Path) -> None:
    clip = Clip("a", tmp_path / "a.wav", labels={"phones": [[0.0, 0.1, "a"]]})
    with pytest.raises(InputError, match=r"prepare\.trim=30: the label phones of a has times"):
        prepare(Fixed([clip]), tmp_path / "out", cleaning=Cleaning(trim=30))
