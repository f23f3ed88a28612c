"""Isotropy of clouds whose isotropy is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.analysis import iso_score, isotropy, mean_cosine, partition_ratio
from w2v_abx.errors import InputError


def gauss(number: int, dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((number, dims))


def reference_iso_score(points: np.ndarray) -> float:
    """Algorithm 1 of Rudman et al. (2022), step by step."""
    n = points.shape[1]
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    diagonal = np.diag(np.cov(centred @ axes.T, rowvar=False))
    normalised = np.sqrt(n) * diagonal / np.linalg.norm(diagonal)
    defect = np.linalg.norm(normalised - 1) / np.sqrt(2 * (n - np.sqrt(n)))
    used = (n - defect**2 * (n - np.sqrt(n))) ** 2 / n**2
    return (n * used - 1) / (n - 1)


def reference_partition_ratio(vectors: np.ndarray) -> float:
    _, directions = np.linalg.eig(vectors.T @ vectors)
    sums = [sum(np.exp(sign * c @ v) for v in vectors) for c in directions.T for sign in (1, -1)]
    return min(sums) / max(sums)


def test_a_normal_cloud_is_isotropic_and_a_line_is_not() -> None:
    cloud, line = gauss(20_000, 8), gauss(2_000, 1) * np.eye(16)[:1]
    assert partition_ratio(cloud) > 0.85
    assert iso_score(cloud) > 0.99
    assert abs(mean_cosine(cloud)) < 0.01
    assert partition_ratio(line) < 0.01
    assert iso_score(line) == pytest.approx(0, abs=1e-12)


def test_a_narrow_cone_is_not_isotropic_though_its_spread_is() -> None:
    cone = gauss(5_000, 8) + 10
    assert partition_ratio(cone) < 0.1
    assert mean_cosine(cone) > 0.9
    assert iso_score(cone) > 0.99


@pytest.mark.parametrize("used", [1, 3, 7, 10])
def test_iso_score_is_the_share_of_even_dimensions(used: int) -> None:
    corners = np.vstack([np.eye(10), -np.eye(10)])
    corners[:, used:] = 0
    assert iso_score(corners) == pytest.approx((used - 1) / 9)


@given(st.integers(0, 10**6), st.integers(12, 40), st.integers(2, 6), st.floats(0.1, 3.0))
def test_equal_the_definitions(seed: int, number: int, dims: int, scale: float) -> None:
    vectors = gauss(number, dims, seed) * scale + gauss(1, dims, seed + 1)
    assert iso_score(vectors) == pytest.approx(reference_iso_score(vectors), abs=1e-9)
    assert partition_ratio(vectors, scale_free=False) == pytest.approx(reference_partition_ratio(vectors))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert mean_cosine(vectors) == pytest.approx((unit @ unit.T)[~np.eye(number, dtype=bool)].mean(), abs=1e-9)


def test_scale_changes_none_of_them_and_large_features_overflow_nothing() -> None:
    vectors = gauss(500, 6) * np.arange(1, 7) + 1
    small, large = isotropy(vectors * 1e-6), isotropy(torch.from_numpy(vectors * 1e6).float())
    assert small.partition_ratio == pytest.approx(large.partition_ratio, rel=1e-3)
    assert small.iso_score == pytest.approx(large.iso_score, rel=1e-3)
    assert small.mean_cosine == pytest.approx(large.mean_cosine, rel=1e-3)
    assert partition_ratio(vectors * 1e6, scale_free=False) == 0


def test_a_seeded_sample_of_many() -> None:
    vectors = gauss(1_000, 4)
    assert isotropy(vectors, most=100, seed=1) == isotropy(vectors, most=100, seed=1)
    assert isotropy(vectors, most=100, seed=1) != isotropy(vectors, most=100, seed=2)
    assert isotropy(vectors, most=1_000) == isotropy(vectors)


def test_equal_and_null_vectors() -> None:
    assert isotropy(np.zeros((5, 3))).iso_score == 0
    assert mean_cosine(np.zeros((5, 3))) == 0
    assert mean_cosine(np.ones((5, 3))) == pytest.approx(1)
    assert iso_score(np.ones((5, 3))) == 0


@pytest.mark.parametrize("vectors", [np.zeros((1, 3)), np.zeros(3), np.zeros((0, 3)), np.zeros((4, 0))])
def test_too_few_vectors(vectors: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least two vectors"):
        isotropy(vectors)


def test_a_nan_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        isotropy(np.array([[1.0, np.nan], [0.0, 1.0]]))
