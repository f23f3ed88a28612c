"""What is held out: by folds, and by a hash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.corpora.splits import by_fold, uniform
from w2v_abx.errors import InputError

FOLDS = st.sets(st.integers(1, 10), min_size=1)


@given(FOLDS, st.data())
def test_every_fold_has_the_split_that_was_asked(folds: set[int], data: st.DataObject) -> None:
    valid = data.draw(st.lists(st.sampled_from(sorted(folds)), unique=True))
    test = data.draw(
        st.lists(st.sampled_from(sorted(folds)), unique=True).map(lambda x: [f for f in x if f not in valid])
    )
    splits = by_fold(map(str, folds), valid, test)
    assert set(splits) == set(map(str, folds))
    for fold in folds:
        assert splits[str(fold)] == ("valid" if fold in valid else "test" if fold in test else "train")


def test_null_is_no_fold() -> None:
    assert by_fold(["1", "2"], None, [2]) == {"1": "train", "2": "test"}


def test_folds_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"corpus.test_folds: there is no fold '3' \(folds: 1, 2, 10\)"):
        by_fold(["1", "10", "2", "1"], [1], ["3"])
    with pytest.raises(InputError, match="fold 2 is in both"):
        by_fold(["1", "2"], [2], [2])


@given(st.text())
def test_uniform_depends_on_the_text_alone(text: str) -> None:
    assert 0 <= uniform(text) == uniform(text) < 1


def test_uniform_spreads_evenly() -> None:
    values = [uniform(str(number)) for number in range(2000)]
    assert all(150 < sum(tenth / 10 <= value < (tenth + 1) / 10 for value in values) < 250 for tenth in range(10))
