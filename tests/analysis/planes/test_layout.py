"""Clouds in a plane, and near points of one class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from w2v_abx.analysis.planes import layout


def clouds(number: int = 2, size: int = 40, dims: int = 6) -> list[np.ndarray]:
    made = np.random.default_rng(0)
    return [layout.centred(made.standard_normal((size, dims)).astype(np.float32)) for _ in range(number)]


def test_principal_components_are_those_of_all_clouds_together() -> None:
    first, second = clouds()
    expected = PCA(2).fit_transform(np.concatenate([first, second]))
    np.testing.assert_allclose(np.concatenate(layout.pca([first, second])), expected, atol=1e-9)


def test_a_cloud_is_where_it_is_in_the_other_model() -> None:
    first, _ = clouds()
    one, other = layout.pca([first, first])
    np.testing.assert_array_equal(one, other)


def test_umap_is_the_same_for_a_seed() -> None:
    given_ = clouds()
    settings_ = {"metric": "cosine", "neighbours": 5, "min_dist": 0.1}
    first, again, other = (layout.umap(given_, seed=seed, **settings_) for seed in (3, 3, 4))
    assert [xy.shape for xy in first] == [(40, 2), (40, 2)]
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def slow_agreement(vectors: np.ndarray, files: np.ndarray, codes: np.ndarray) -> tuple[float, float] | None:
    shares, chances = [], []
    for point in range(len(vectors)):
        others = [i for i in range(len(vectors)) if files[i] != files[point]]
        nearest = sorted(others, key=lambda i: (np.linalg.norm(vectors[i] - vectors[point]), i))
        nearest = [i for i in nearest[: min(layout.NEAREST, len(vectors) - 1)] if codes[i] >= 0]
        if codes[point] >= 0 and nearest:
            shares.append(np.mean([codes[i] == codes[point] for i in nearest]))
            chances.append(np.mean([codes[i] == codes[point] for i in others if codes[i] >= 0]))
    return (float(np.mean(shares)), float(np.mean(chances))) if shares else None


@settings(max_examples=30)
@given(st.integers(3, 25), st.integers(1, 4), st.integers(0, 1000))
def test_near_points_of_one_class_equal_a_count_by_hand(size: int, number: int, seed: int) -> None:
    made = np.random.default_rng(seed)
    vectors, files = made.standard_normal((size, 3)), made.integers(0, number, size)
    codes = made.integers(-1, 3, size)
    found = layout.nearest_elsewhere(vectors, files, "euclidean").agreement(codes)
    expected = slow_agreement(vectors, files, codes)
    assert (found is None) == (expected is None)
    if found and expected:
        np.testing.assert_allclose(found[:2], expected)


def test_rows_in_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, files = clouds(1)[0], np.arange(40) // 3
    whole = layout.nearest_elsewhere(vectors, files, "cosine").nearest
    monkeypatch.setattr(layout, "ROWS", 7)
    np.testing.assert_array_equal(layout.nearest_elsewhere(vectors, files, "cosine").nearest, whole)
