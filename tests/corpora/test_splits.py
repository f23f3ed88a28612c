"""What is held out: by values of a label, and by a hash."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from w2v_abx.clips import Clip
from w2v_abx.corpora.splits import HeldOut, hold_out, joined, share_out, uniform
from w2v_abx.errors import InputError

FOLDS = st.lists(st.integers(1, 10), min_size=1)


def splits(folds: list[int], valid: list[int] | None, test: list[int] | None) -> list[str]:
    clips = [Clip(str(place), Path("a.wav"), labels={"fold": str(fold)}) for place, fold in enumerate(folds)]
    held = [
        HeldOut.parse(f"corpus.{split}", None if values is None else {"label": "fold", "values": values})
        for split, values in (("valid", valid), ("test", test))
    ]
    return [clip.split for clip in hold_out(clips, *held)]


@given(FOLDS, st.data())
def test_every_fold_has_the_split_that_was_asked(folds: list[int], data: st.DataObject) -> None:
    some = st.lists(st.sampled_from(folds), unique=True)
    valid = data.draw(some)
    test = [fold for fold in data.draw(some) if fold not in valid]
    wanted = ["valid" if fold in valid else "test" if fold in test else "train" for fold in folds]
    if "train" in wanted:
        assert splits(folds, valid, test) == wanted
    else:
        with pytest.raises(InputError, match="holds out every clip: leave some to train on"):
            splits(folds, valid, test)


def test_null_is_no_fold() -> None:
    assert splits([1, 2], None, [2]) == ["train", "test"]
    assert splits([1, 2], [], None) == ["train", "train"]


def test_folds_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"corpus.test.values: no clip has fold='3' \(values: 1, 2, 10\)"):
        splits([1, 10, 2, 1], [1], [3])
    with pytest.raises(InputError, match=r"corpus.valid and corpus.test both hold out 1: leave it to one"):
        splits([1, 2, 3], [2], [2])


def test_fractions_for_both_splits_are_drawn_one_after_the_other() -> None:
    clips = [Clip(str(number), Path("a.wav")) for number in range(1000)]
    valid, test = ({"fraction": 0.2, "seed": seed} for seed in range(2))
    alone = hold_out(clips, HeldOut.parse("corpus.valid", valid))
    both = hold_out(clips, HeldOut.parse("corpus.valid", valid), HeldOut.parse("corpus.test", test))
    assert [clip.split == "valid" for clip in both] == [clip.split == "valid" for clip in alone]
    assert 100 < sum(clip.split == "test" for clip in both) < 220
    # The same seed would draw what is gone already: the hash of the split's name is in it.
    same = hold_out(clips, HeldOut.parse("corpus.valid", valid), HeldOut.parse("corpus.test", valid))
    assert 100 < sum(clip.split == "test" for clip in same) < 220


@given(st.text())
def test_uniform_depends_on_the_text_alone(text: str) -> None:
    assert 0 <= uniform(text) == uniform(text) < 1


def test_uniform_spreads_evenly() -> None:
    values = [uniform(str(number)) for number in range(2000)]
    assert all(150 < sum(tenth / 10 <= value < (tenth + 1) / 10 for value in values) < 250 for tenth in range(10))


@example({"": "a", "0": "a"}, 0.25, 0.375, 0)
@given(
    st.dictionaries(st.text(max_size=3), st.sampled_from("abc"), min_size=1, max_size=40),
    st.floats(0, 0.6),
    st.floats(0, 0.39),
    st.integers(0, 5),
)
def test_groups_are_shared_out_within_their_strata(
    groups: dict[str, str], valid: float, test: float, seed: int
) -> None:
    drawn = share_out(groups, valid, test, seed)
    assert drawn.keys() == groups.keys()
    alone = untested = 0
    for stratum in set(groups.values()):
        own = {group: of for group, of in groups.items() if of == stratum}
        sides = [drawn[group] for group in own]
        alone += sides.count("valid") - min(round(valid * len(own)), len(own) - 1)
        left = len(own) - 1 - min(round(valid * len(own)), len(own) - 1)
        untested += min(round(test * len(own)), left) - sides.count("test")
        assert "train" in sides or len(groups) > 1
    assert alone in (0, 1)  # the one group that is valid where shares make none
    assert untested in (0, 1)
    if untested:  # the one that is valid was of test, where only one is left to train on
        assert alone == list(drawn.values()).count("train") == 1
    assert ("valid" in drawn.values()) == (valid > 0 and len(groups) > 1)


@given(st.lists(st.lists(st.integers(0, 12).map(str), min_size=1, max_size=3), max_size=20))
def test_things_that_share_a_name_are_joined(names: list[list[str]]) -> None:
    sets = [set(own) for own in names]
    for _ in sets:  # until nothing grows: each takes in all that it meets
        sets = [set().union(*(other for other in sets if other & own)) for own in sets]
    assert joined(names) == [min(own) for own in sets]
