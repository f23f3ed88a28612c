"""Phonological analogies among centroids."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_abx.analysis.directions.analogies import MEASURES, analogies, contrasts, measure, random_offsets

STOPS = dict(zip("pbtdkg", "pbtdkɡ", strict=True))


def test_contrasts_are_pairs_that_differ_in_few_features() -> None:
    assert contrasts(STOPS, 1) == {"voi": [("k", "g"), ("p", "b"), ("t", "d")]}
    nasals = {**STOPS, "m": "m", "n": "n", "aI": "aɪ", "sil": ""}
    assert contrasts(nasals, 1) == contrasts(STOPS, 1)
    found = contrasts(nasals, 2)
    assert found["son+nas"] == [("b", "m"), ("d", "n")]
    assert not {"aI", "sil"} & {phone for pairs in found.values() for pair in pairs for phone in pair}
    assert contrasts({**STOPS, "iE": "iE", "I": "ɪ"}, 1) == contrasts(STOPS, 1)  # E is no letter of the IPA
    assert contrasts({"ph": "pʰ", "p": "p", "t": "t", "th": "tʰ"}, 1) == {"sg": [("p", "ph"), ("t", "th")]}


def test_each_phone_of_two_pairs_is_sought_from_the_other_three() -> None:
    table = analogies({"voi": [("p", "b"), ("t", "d")], "x": [("p", "s"), ("p", "f")]})
    assert sorted(table.rows()) == [
        ("voi", "b", "p", "t", "d"),
        ("voi", "d", "t", "p", "b"),
        ("voi", "p", "b", "d", "t"),
        ("voi", "t", "d", "b", "p"),
    ]
    assert analogies({}).is_empty()


def slow(centroids: np.ndarray, task: np.ndarray, offset: np.ndarray) -> float:
    """Whether the target is nearest, one phone after another."""
    centred = centroids - centroids.mean(0)
    predicted = centred[task[1]] + offset
    angles = {
        phone: predicted @ vector / np.linalg.norm(predicted) / np.linalg.norm(vector)
        for phone, vector in enumerate(centred)
        if phone not in task[1:]
    }
    return float(max(angles, key=lambda phone: angles[phone]) == task[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_measures_are_those_of_a_slow_search(seed: int) -> None:
    random = np.random.default_rng(seed)
    centroids = random.normal(size=(8, 4))
    tasks = np.stack([random.permutation(8)[:4] for _ in range(5)])
    unrelated = random_offsets(tasks, 8, seed)
    found = dict(zip(MEASURES, measure(centroids, tasks, unrelated).T, strict=True))
    for row, (target, start, minus, plus) in enumerate(tasks):
        own, other = centroids[target] - centroids[start], centroids[plus] - centroids[minus]
        cosine = own @ other / np.linalg.norm(own) / np.linalg.norm(other)
        assert found["cosine"][row] == pytest.approx(cosine)
        assert found["accuracy"][row] == slow(centroids, tasks[row], other)
        assert found["neighbour_accuracy"][row] == slow(centroids, tasks[row], np.zeros(4))
        drawn = centroids[unrelated[row, 3]] - centroids[unrelated[row, 2]]
        assert found["random_accuracy"][row] == slow(centroids, unrelated[row], drawn)
        assert (found["reciprocal_rank"][row] == 1) == bool(found["accuracy"][row])


def test_a_perfect_space_is_right_and_an_empty_one_is_chance() -> None:
    phones = [*"pbtdkg"]
    table = analogies(contrasts(STOPS, 1))
    tasks = np.array([[phones.index(name) for name in row[1:]] for row in table.rows()])
    place, voice = np.repeat(np.eye(3), 2, axis=0), np.tile([0.0, 1.0], 3)
    perfect = np.concatenate([place, voice[:, None]], axis=1)
    unrelated = random_offsets(tasks, 6, 0)
    found = dict(zip(MEASURES, measure(perfect, tasks, unrelated).mean(0), strict=True))
    assert (found["cosine"], found["accuracy"], found["reciprocal_rank"]) == pytest.approx((1, 1, 1))
    nothing = dict(zip(MEASURES, measure(np.ones((6, 3)), tasks, unrelated).mean(0), strict=True))
    assert nothing["cosine"] == 0
    assert nothing["accuracy"] == pytest.approx(1 / 3)  # one of the three that are left
    assert nothing["reciprocal_rank"] == pytest.approx(1 / 2)  # the middle rank


def test_a_phone_that_is_not_there_takes_its_analogies_with_it() -> None:
    random = np.random.default_rng(0)
    centroids = random.normal(size=(8, 3))
    tasks = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    unrelated = np.array([[0, 1, 2, 4], [4, 5, 6, 1]])
    centroids[3] = np.nan
    found = measure(centroids, tasks, unrelated)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_random_offsets_are_of_two_other_phones() -> None:
    tasks = np.array([list(four) for four in combinations(range(6), 4)])
    drawn = random_offsets(tasks, 6, 1)
    assert np.array_equal(drawn[:, :2], tasks[:, :2])
    assert all(len(set(row)) == 4 for row in drawn.tolist())
    assert np.array_equal(drawn, random_offsets(tasks, 6, 1))
    assert not np.array_equal(drawn, random_offsets(tasks, 6, 2))
