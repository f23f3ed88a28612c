"""What goes into which shard, under which name."""

from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.shards.planning import _names


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), unique=True))
def test_names_in_a_shard_are_distinct_and_plain(keys: list[str]) -> None:
    names = _names(keys)
    assert len(set(names.values())) == len(keys)
    assert all(name and not set(name) & set("./\\ \0\n") for name in names.values())
