"""Intervals of ratios hold the truth as often as they say, and leave out what they should."""

import numpy as np
import pytest
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


def test_an_error_rate_above_one_and_one_of_zero() -> None:
    low, high = ratio_interval([30, 14, 16], [10, 10, 10]) or (0.0, 0.0)
    assert low < 2 < high
    assert low + high == pytest.approx(4)
    assert ratio_interval([0, 0], [4, 5]) == (0.0, 0.0)
