"""Regression on two factors, against least squares with a column for each group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from w2v_abx.statistics.two_factors import slope_within, two_factors


def least_squares(y: np.ndarray, columns: list[np.ndarray], weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights of the columns, beside a constant for each group, and R² within groups: by numpy's lstsq."""
    groups = np.repeat(np.arange(y.shape[0]), y.shape[1])
    constants = (groups[:, None] == np.unique(groups)).astype(float)
    root = np.sqrt(weights.ravel())

    def residual(design: np.ndarray) -> tuple[np.ndarray, float]:
        found, *_ = np.linalg.lstsq(design * root[:, None], y.ravel() * root, rcond=None)
        return found, float((((y.ravel() - design @ found) * root) ** 2).sum())

    found, left = residual(np.column_stack([constants, *(column.ravel() for column in columns)]))
    _, total = residual(constants)
    return found[constants.shape[1] :], 1 - left / total


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), groups=st.integers(1, 4), units=st.integers(5, 12), scale=st.sampled_from([1, 100]))
def test_it_equals_least_squares(seed: int, groups: int, units: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, groups, units))
    b += 0.5 * a
    y = scale * (a + 0.3 * b + generator.normal(size=a.shape) + 5 * np.arange(groups)[:, None])
    weights = generator.integers(1, 4, size=a.shape).astype(float)
    found = two_factors(y, a, b, weights)
    raw, both = least_squares(y, [a, b], weights)

    def spread(values: np.ndarray) -> float:
        within = values - np.average(values, axis=1, weights=weights)[:, None]
        return float(np.sqrt((weights * within**2).sum()))

    assert [found.beta_first, found.beta_second] == pytest.approx(
        [raw[0] * spread(a) / spread(y), raw[1] * spread(b) / spread(y)]
    )
    first, second = (least_squares(y, [column], weights)[1] for column in (a, b))
    assert [found.both, found.r_first**2, found.r_second**2] == pytest.approx([both, first, second])
    assert [found.unique_first, found.unique_second] == pytest.approx([both - second, both - first], abs=1e-9)
    assert found.unique_first + found.unique_second + found.common == pytest.approx(both)


def test_one_group_without_weights_is_pearson_and_several_regressions_go_at_once() -> None:
    generator = np.random.default_rng(1)
    y, a, b = generator.normal(size=(3, 6, 1, 20))
    found = two_factors(y, a, b, np.ones_like(y))
    assert found.r_first == pytest.approx(
        [stats.pearsonr(left[0], right[0]).statistic for left, right in zip(y, a, strict=True)]
    )
    assert found.r_factors == pytest.approx(
        [stats.pearsonr(left[0], right[0]).statistic for left, right in zip(a, b, strict=True)]
    )


def test_where_one_factor_alone_matters_it_has_all() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=(2, 1, 5000))
    found = two_factors(a + 0.5 * generator.normal(size=a.shape), a, b, np.ones_like(a))
    assert found.unique_first == pytest.approx(0.8, abs=0.02)
    assert [found.unique_second, found.common] == pytest.approx([0, 0], abs=0.01)


def test_what_one_factor_hides_of_the_other_is_below_zero() -> None:
    generator = np.random.default_rng(3)
    a, noise = generator.normal(size=(2, 1, 1000))
    assert two_factors(a, a + noise, noise, np.ones_like(a)).common < -0.1


def test_what_does_not_vary_explains_nothing_and_says_so() -> None:
    y, a = np.arange(8.0)[None], np.arange(8.0)[None] ** 2
    constant = np.full_like(y, 0.1 + 0.2)
    weights = np.ones_like(y)
    for outcome, first, second in ((constant, a, y), (y, constant, a), (y, a, constant), (y, a, 3 * a + 1)):
        assert np.isnan(two_factors(outcome, first, second, weights).beta_first)
    assert np.isnan(slope_within(y, a, weights))  # one group tells nothing of changes from group to group


def test_a_unit_without_weight_is_not_there() -> None:
    generator = np.random.default_rng(4)
    y, a, b = generator.normal(size=(3, 2, 9))
    weights = np.ones_like(y)
    weights[1, 4] = 0
    holes = y.copy()
    holes[1, 4] = np.nan
    filled = y.copy()
    filled[1, 4] = 1e6
    assert two_factors(holes, a, b, weights) == two_factors(filled, a, b, weights)
    whole = [np.delete(values[:, None, :], 4, axis=-1) for values in (y[1:], a[1:], b[1:])]
    alone = two_factors(holes[1:], a[1:], b[1:], weights[1:])
    assert alone.both == pytest.approx(two_factors(*whole, np.ones_like(whole[0])).both.item())


def test_the_slope_within_units_is_that_of_two_way_least_squares() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(size=(4, 7))
    y = 0.3 * x + 10 * np.arange(7) + 3 * np.arange(4)[:, None] + 0.1 * generator.normal(size=x.shape)
    weights = generator.integers(1, 3, size=(4, 1)) * generator.integers(1, 4, size=(1, 7)).astype(float)
    units = np.tile(np.eye(7)[:, 1:], (4, 1))
    slopes, _ = least_squares(y, [x, *(units[:, n].reshape(4, 7) for n in range(6))], weights)
    assert slope_within(y, x, weights) == pytest.approx(slopes[0])
