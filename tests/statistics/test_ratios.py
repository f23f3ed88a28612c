"""Intervals of ratios hold the truth as often as they say, and leave out what they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from w2v_abx.statistics.ratios import jackknife_interval, ratio_interval


def test_of_equal_units_it_is_students_on_the_scale_of_log_odds() -> None:
    accuracy = np.array([0.5, 0.6, 0.8, 0.7])
    found = ratio_interval(10 * accuracy, np.full(4, 10))
    value, error = accuracy.mean(), stats.sem(accuracy)
    reach = stats.t.isf(0.025, 3) * error / (value * (1 - value))
    odds = np.log(value / (1 - value)) + np.array([-reach, reach])
    assert found == pytest.approx(tuple(1 / (1 + np.exp(-odds))))


def test_it_holds_the_truth_19_times_in_20() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1_000):
        clips = rng.integers(5, 60, 12)
        right = rng.binomial(clips, rng.beta(6, 4, 12))  # speakers differ; the mean is 0.6
        low, high = ratio_interval(right, clips) or (1.0, 0.0)
        held += low <= 0.6 <= high
    assert 915 <= held <= 975


def test_units_without_anything_do_not_count() -> None:
    assert ratio_interval([3, 0, 5], [4, 0, 9]) == ratio_interval([3, 5], [4, 9])
    assert ratio_interval([3, 0], [4, 0]) is None
    assert ratio_interval([], []) is None
    assert jackknife_interval(0.5, [0.5]) is None


def test_the_interval_of_an_error_rate_above_one_is_above_zero() -> None:
    for errors in ([30, 14, 16], [20, 4]):
        words = [10] * len(errors)
        value = sum(errors) / sum(words)
        low, high = ratio_interval(errors, words) or (0.0, 0.0)
        assert 0 < low < value < high
        assert low * high == pytest.approx(value**2)


@given(st.integers(0, 10), st.lists(st.integers(1, 50), min_size=2, max_size=6))
def test_units_that_are_all_alike_tell_nothing(tenths: int, clips: list[int]) -> None:
    assert ratio_interval([tenths * n for n in clips], [10 * n for n in clips]) is None
