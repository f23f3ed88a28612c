"""Scores from counts equal those that scikit-learn computes from the labels of all points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from w2v_abx.analysis.clustering.contingency import (
    adjusted_rand,
    changes,
    concentration,
    contingency,
    expected_information,
    matched,
    scores,
)

LABELLINGS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40).map(np.array)


@given(LABELLINGS)
def test_equal_scikit_learn(pairs: np.ndarray) -> None:
    clusters, classes = pairs.T
    table = contingency(clusters, classes, (5, 4))
    found = scores(table)
    homogeneity, completeness, v_measure = metrics.homogeneity_completeness_v_measure(classes, clusters)
    assert found["mutual_information"] == pytest.approx(metrics.mutual_info_score(classes, clusters), abs=1e-12)
    assert found["ami"] == pytest.approx(metrics.adjusted_mutual_info_score(classes, clusters), abs=1e-9)
    assert found["homogeneity"] == found["pnmi"] == pytest.approx(homogeneity)
    assert found["completeness"] == pytest.approx(completeness)
    assert found["v_measure"] == pytest.approx(v_measure)
    assert adjusted_rand(table) == pytest.approx(metrics.adjusted_rand_score(classes, clusters))


def test_many_points_do_not_overflow() -> None:
    table = np.array([[4_000_000, 1_000_000], [0, 5_000_000]])
    small = adjusted_rand(table // 1000)
    assert adjusted_rand(table) == pytest.approx(small, rel=1e-3)
    assert scores(table)["v_measure"] == pytest.approx(scores(table // 1000)["v_measure"])
    assert scores(table)["ami"] == pytest.approx(scores(table // 1000)["ami"], rel=1e-3)


def test_what_chance_gives_is_scikit_learns_where_counts_are_large_or_rare() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.choice(5, 30_000, p=[0.9, 0.05, 0.04, 0.0099, 0.0001])
    table = contingency(clusters, rng.choice(3, 30_000, p=[0.5, 0.4999, 0.0001]), (5, 3))
    expected = metrics.cluster.expected_mutual_information(table, 30_000)
    assert expected_information(table.sum(1), table.sum(0)) == pytest.approx(expected, rel=1e-8)


def test_a_table_by_hand() -> None:
    # Two clusters of 4 and 4 points, classes of 5 and 3.
    table = np.array([[4, 0], [1, 3]])
    found = scores(table)
    information = (4 * np.log(8 * 4 / (4 * 5)) + 1 * np.log(8 * 1 / (4 * 5)) + 3 * np.log(8 * 3 / (4 * 3))) / 8
    entropy = -(5 / 8 * np.log(5 / 8) + 3 / 8 * np.log(3 / 8))
    assert found["mutual_information"] == pytest.approx(information)
    assert found["pnmi"] == pytest.approx(information / entropy)
    assert found["completeness"] == pytest.approx(information / np.log(2))
    assert found["purity"] == 7 / 8
    assert found["cluster_purity"] == 7 / 8
    assert concentration(table).tolist() == [4 / 5, 1]
    assert adjusted_rand(table) == pytest.approx((9 - 12 * 13 / 28) / ((12 + 13) / 2 - 12 * 13 / 28))


def test_points_without_a_value_are_left_out() -> None:
    table = contingency(np.array([0, 1, -1, 1]), np.array([2, -1, 0, 0]), (2, 3))
    assert table.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_no_point_has_no_score() -> None:
    table = np.zeros((2, 3), dtype=np.int64)
    assert all(np.isnan(value) for value in scores(table).values())
    assert np.isnan(adjusted_rand(table))
    assert np.isnan(concentration(table)).all()
    assert np.isnan(changes(table).drift)


def test_one_cluster_says_nothing_and_equal_ones_everything() -> None:
    assert scores(np.array([[3, 2, 0]]))["ami"] == 0
    assert scores(np.array([[3, 2, 0]]))["homogeneity"] == 0
    same = scores(np.diag([5, 0, 4]))
    assert [same[name] for name in ("ami", "v_measure", "purity")] == pytest.approx([1, 1, 1])


@given(st.permutations(range(6)))
def test_the_matching_finds_renamed_clusters(order: list[int]) -> None:
    table = np.zeros((6, 6), dtype=np.int64)
    table[np.arange(6), order] = np.arange(5, 11)
    assert matched(table).tolist() == order
    assert changes(table) == (0, 0, 0)


def test_the_matching_is_the_best_of_all() -> None:
    # Greedily, row 0 would take column 0, and 60 points were matched; the best has 90.
    table = np.array([[50, 45], [45, 10]])
    assert matched(table).tolist() == [1, 0]
    assert changes(table).drift == pytest.approx(60 / 150)


def test_splits_and_merges() -> None:
    # Row 0 splits in halves; rows 1 and 2 merge; row 3 gives a tenth away, which is no split.
    table = np.array([[50, 50, 0, 0], [0, 0, 40, 0], [0, 0, 40, 0], [0, 0, 10, 90]])
    found = changes(table)
    assert (found.splits, found.merges) == (1, 1)
    assert found.drift == pytest.approx(1 - (50 + 40 + 90) / 280)


def test_more_clusters_than_the_other_has() -> None:
    assert matched(np.array([[3], [4], [0]])).tolist() == [-1, 0, -1]
    assert matched(np.array([[0, 0], [0, 2]])).tolist() == [-1, 1]
