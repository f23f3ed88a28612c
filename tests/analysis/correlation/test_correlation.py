"""Canonical correlations from sums: against direct references and known cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh, subspace_angles
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, Ridge

from w2v_abx.analysis.correlation import correlation as cc
from w2v_abx.analysis.correlation.moments import Side, Sums

Floats = np.ndarray


def sums(x: Floats) -> Sums:
    return Sums(len(x), x.sum(0), x.T @ x)


def sides(x: Floats, y: Floats) -> tuple[Side, Side, Floats]:
    one, other = Side.of(sums(x)), Side.of(sums(y))
    return one, other, cc.covariance(one, other, x.T @ y, len(x))


def correlations(x: Floats, y: Floats) -> Floats:
    return cc.canonical(*sides(x, y)).correlations


def one_hot(codes: Floats, number: int | None = None) -> Floats:
    return np.eye(number or codes.max() + 1)[codes]


def centred(x: Floats) -> Floats:
    return x - x.mean(0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(8, 60))
@settings(max_examples=40, deadline=None)
def test_correlations_are_cosines_of_the_angles_between_subspaces(seed: int, d: int, e: int, n: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, d)) + 3, random.normal(size=(n, e)) - 1
    y[:, 0] += x[:, 0]
    expected = np.sort(np.cos(subspace_angles(centred(x), centred(y))))[::-1]
    np.testing.assert_allclose(correlations(x, y), expected, atol=1e-7)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_what_is_rotated_scaled_and_moved_is_the_same(seed: int, d: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(40, d)) * np.arange(1, d + 1)
    y = scale * x @ np.linalg.qr(random.normal(size=(d, d)))[0] + 5
    one, other, cov = sides(x, y)
    assert cc.mean(cc.canonical(one, other, cov).correlations) == pytest.approx(1)
    assert cc.mean(cc.canonical(one.kept(0.9), other.kept(0.9), cov).correlations) == pytest.approx(1)
    assert cc.projection_weighted(one, other, cc.canonical(one, other, cov)) == pytest.approx(1)
    assert cc.cka(one, other, cov) == pytest.approx(1)


def test_cca_but_not_cka_is_the_same_under_any_invertible_map() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 4))
    y = random.normal(size=(50, 3)) + x[:, :3]
    mapped = x @ (random.normal(size=(4, 4)) + 3 * np.eye(4))
    np.testing.assert_allclose(correlations(x, y), correlations(mapped, y), atol=1e-9)
    assert cc.cka(*sides(x, y)) != pytest.approx(cc.cka(*sides(mapped, y)), abs=1e-3)


def test_correlations_with_one_hot_labels_are_those_of_discriminant_analysis() -> None:
    random = np.random.default_rng(1)
    codes = random.integers(0, 4, 200)
    x = random.normal(size=(200, 6)) + random.normal(size=(4, 6))[codes]
    means = np.array([x[codes == k].mean(0) for k in range(4)])
    within = sum((x[codes == k] - means[k]).T @ (x[codes == k] - means[k]) for k in range(4))
    between = centred(x).T @ centred(x) - within
    ratios = eigh(between, within, eigvals_only=True)[::-1][:3]
    found = cc.canonical(*sides(x, one_hot(codes)))
    np.testing.assert_allclose(found.correlations**2, ratios / (1 + ratios))
    # The variates span what scikit-learn's discriminants do.
    model = LinearDiscriminantAnalysis(solver="eigen").fit(x, codes)
    assert subspace_angles(found.x, model.scalings_[:, :3]).max() < 1e-6


def test_two_classes_give_the_multiple_correlation_of_a_regression() -> None:
    random = np.random.default_rng(2)
    codes = random.integers(0, 2, 80)
    x = random.normal(size=(80, 5)) + codes[:, None]
    expected = np.sqrt(LinearRegression().fit(x, codes).score(x, codes))
    np.testing.assert_allclose(correlations(x, one_hot(codes)), [expected])


def test_a_ridge_is_that_of_a_regression() -> None:
    random = np.random.default_rng(3)
    codes = random.integers(0, 2, 80)
    x = random.normal(size=(80, 5)) + codes[:, None]
    found = cc.canonical(*sides(x, one_hot(codes)), ridge=0.7).x[:, 0]
    expected = Ridge(alpha=0.7 * len(x)).fit(x, codes).coef_
    assert abs(found @ expected) == pytest.approx(np.linalg.norm(found) * np.linalg.norm(expected))


def test_svcca_is_cca_of_principal_components() -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=(60, 5)) * [10, 5, 2, 1, 0.5]
    y = random.normal(size=(60, 2)) + x[:, :2]
    left, size, _ = np.linalg.svd(centred(x), full_matrices=False)
    number = int(np.argmax(np.cumsum(size**2) / (size**2).sum() >= 0.9)) + 1
    assert 1 < number < 5
    one, other, cov = sides(x, y)
    found = cc.canonical(one.kept(0.9), other, cov).correlations
    np.testing.assert_allclose(found, correlations(left[:, :number] * size[:number], y))


def test_pwcca_weights_by_what_variates_account_for() -> None:
    random = np.random.default_rng(5)
    x = random.normal(size=(60, 5))
    y = random.normal(size=(60, 3)) * [9, 1, 1] + x[:, :3]
    one, other, cov = sides(x, y)
    found = cc.canonical(one, other, cov)
    variates = centred(y) @ found.y
    weights = np.abs(variates.T @ centred(y)).sum(1)
    expected = weights @ found.correlations / weights.sum()
    assert cc.projection_weighted(one, other, found) == pytest.approx(expected)


def test_cka_from_gram_matrices() -> None:
    random = np.random.default_rng(6)
    x, y = centred(random.normal(size=(30, 5))), centred(random.normal(size=(30, 4)))
    y[:, 0] += x[:, 0]
    grams = x @ x.T, y @ y.T
    expected = (grams[0] * grams[1]).sum() / np.linalg.norm(grams[0]) / np.linalg.norm(grams[1])
    assert cc.cka(*sides(x, y)) == pytest.approx(expected)


def test_repeated_and_constant_variables_add_nothing() -> None:
    random = np.random.default_rng(7)
    x = random.normal(size=(50, 3))
    codes = random.integers(0, 3, 50)
    more = np.column_stack([x, x[:, 0] * 2 + x[:, 1], np.full(50, 7.0)])
    np.testing.assert_allclose(correlations(more, one_hot(codes)), correlations(x, one_hot(codes)))


def test_what_is_constant_has_nothing_in_common() -> None:
    x, codes = np.full((20, 3), 0.1), np.arange(20) % 2
    one, other, cov = sides(x, one_hot(codes))
    found = cc.canonical(one, other, cov)
    assert len(found.correlations) == 0
    assert cc.mean(found.correlations) == cc.projection_weighted(one, other, found) == cc.cka(one, other, cov) == 0


def test_fewer_points_than_dimensions_correlate_wholly() -> None:
    x, codes = np.random.default_rng(8).normal(size=(10, 30)), np.arange(10) % 3
    np.testing.assert_allclose(correlations(x, one_hot(codes)), 1)


def test_a_class_with_one_member_counts() -> None:
    random = np.random.default_rng(9)
    codes = np.array([0, 1] * 20 + [2])
    x = random.normal(size=(41, 4))
    assert len(correlations(x, one_hot(codes))) == 2
    assert len(correlations(x, one_hot(codes, 5))) == 2  # a class without a member does not


def test_variates_that_span_the_same_overlap_wholly() -> None:
    random = np.random.default_rng(10)
    side = Side.of(sums(random.normal(size=(50, 4))))
    one = random.normal(size=(4, 2))
    assert cc.overlap(side, one, one @ random.normal(size=(2, 2))) == pytest.approx(1)
    assert cc.overlap(side, one, np.empty((4, 0))) == 0


def folded(x: Floats, y: Floats, folds: Floats, ridges: list[float], hot: bool = True, own: bool = False) -> cc.HeldOut:
    number = folds.max() + 1

    def fit(without: tuple[int, ...]) -> tuple[Side, Side, Floats]:
        rest = ~np.isin(folds, without)
        return sides(x[rest], y[rest])

    parts = [folds == fold for fold in range(number)]
    products = [x[part].T @ y[part] for part in parts]
    xs, ys = ([sums(side[part]) for part in parts] for side in (x, y))
    return cc.held_out(xs, ys, products, fit, [ridges] * number, one_hot=hot, own_means=own)


def test_held_out_correlations_are_those_of_predictions() -> None:
    random = np.random.default_rng(11)
    codes, folds = random.integers(0, 2, 90), np.arange(90) % 3
    x = random.normal(size=(90, 5)) + codes[:, None]
    found = folded(x, one_hot(codes), folds, [0.3])
    xy = xx = yy = 0.0
    for fold in range(3):
        test, train = folds == fold, (folds != fold) & (folds != (1, 0, 0)[fold])
        ridge = 0.3 * x[train].var(0).sum() / 5 * train.sum()
        model = Ridge(alpha=ridge).fit(x[train], codes[train])
        weights = cc.canonical(*sides(x[train], one_hot(codes[train])), ridge=ridge / train.sum()).x
        u = model.predict(x[test]) - codes[train].mean()
        u *= np.linalg.norm(weights) / np.linalg.norm(model.coef_)
        v = (codes[test] - codes[train].mean()) / codes[train].std()
        xy, xx, yy = xy + u @ v, xx + u @ u, yy + v @ v
    assert found.value() == pytest.approx(xy / np.sqrt(xx * yy))


def test_what_all_points_of_a_fold_share_does_not_count_beside_their_own_means() -> None:
    random = np.random.default_rng(18)
    codes, folds = random.integers(0, 3, 120), np.arange(120) % 2
    x = random.normal(size=(120, 4)) + 5 * np.eye(4)[codes]
    moved = x + 1000 * folds[:, None] * random.normal(size=4)
    plain = folded(x, one_hot(codes), folds, [1e-3], own=True).value()
    assert folded(moved, one_hot(codes), folds, [1e-3], own=True).value() == pytest.approx(plain, abs=1e-6)
    assert plain > 0.9
    assert folded(moved, one_hot(codes), folds, [1e-3]).value() < 0.3


def test_independent_labels_correlate_in_the_sample_but_not_held_out() -> None:
    random = np.random.default_rng(12)
    x, codes = random.normal(size=(400, 80)), random.integers(0, 2, 400)
    assert correlations(x, one_hot(codes))[0] == pytest.approx(np.sqrt(80 / 399), abs=0.08)
    found = folded(x, one_hot(codes), np.arange(400) % 8, [1e-6, 0.1])
    assert abs(found.value()) < 0.15
    assert found.tested == [*range(8)]


def test_the_ridge_is_chosen_on_another_fold() -> None:
    random = np.random.default_rng(13)
    codes = random.integers(0, 2, 60)
    x = random.normal(size=(60, 40))
    x[:, 0] = 3 * codes + 0.5 * random.normal(size=60)
    assert set(folded(x, one_hot(codes), np.arange(60) % 4, [1e-9, 10.0]).ridges) == {10.0}
    assert folded(x, one_hot(codes), np.arange(60) % 2, [1e-9, 0.5, 10.0]).ridges == [0.5, 0.5]


def test_a_label_with_one_value_in_each_fold_is_held_out_too() -> None:
    random = np.random.default_rng(14)
    folds = np.arange(120) % 6
    codes = folds % 2
    x = random.normal(size=(120, 3)) + 4 * codes[:, None]
    assert folded(x, one_hot(codes), folds, [1e-3]).value() > 0.95


def test_a_class_that_the_fit_has_not_seen_counts_as_the_mean() -> None:
    random = np.random.default_rng(15)
    folds = np.arange(120) % 4
    codes = np.where(folds == 3, 2, np.arange(120) // 4 % 2)
    x = random.normal(size=(120, 3)) + 9 * codes[:, None]
    found = folded(x, one_hot(codes, 3), folds, [1e-3])
    assert found.tested == [0, 1, 2]
    assert found.yy[3, 0] == pytest.approx(0, abs=1e-12)


def test_folds_that_have_one_class_to_fit_are_not_tested() -> None:
    x = np.random.default_rng(16).normal(size=(40, 3))
    folds = np.arange(40) % 2
    assert folded(x, one_hot(folds), folds, [1e-3]).tested == []


def test_two_models_held_out() -> None:
    random = np.random.default_rng(17)
    x = random.normal(size=(200, 4))
    turned = x @ np.linalg.qr(random.normal(size=(4, 4)))[0]
    folds = np.arange(200) % 5
    assert folded(x, turned, folds, [1e-9], hot=False).value() == pytest.approx(1)
    assert abs(folded(x, random.normal(size=(200, 4)), folds, [1e-9], hot=False).value()) < 0.15
