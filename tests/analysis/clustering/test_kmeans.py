"""Groups that are known are found; the distance is close to that of scikit-learn's full k-means."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clouds import clouds, store_of
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from w2v_abx.analysis.clustering import kmeans, latents
from w2v_abx.analysis.clustering.kmeans import METHODS, group
from w2v_abx.analysis.clustering.latents import Latents, reduced
from w2v_abx.errors import InputError


def latents_of(vectors: np.ndarray) -> Latents:
    return Latents("before, layer 3", vectors.astype(np.float32), np.arange(len(vectors)))


@pytest.mark.parametrize("method", METHODS)
def test_known_groups_are_found(method: str) -> None:
    groups = np.random.default_rng(0).integers(0, 5, 600)
    found = group(latents_of(clouds(groups)), 5, method, seed=0)
    assert adjusted_rand_score(groups, found.codes) == 1
    assert found.distance < 0.1


def test_spherical_groups_are_directions_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 500)
    scaled = clouds(groups, spread=0.02) * rng.uniform(0.1, 10, (500, 1))
    assert adjusted_rand_score(groups, group(latents_of(scaled), 3, "spherical", 0).codes) == 1
    assert adjusted_rand_score(groups, group(latents_of(scaled), 3, "kmeans", 0).codes) < 0.7


def test_the_distance_is_near_that_of_full_k_means_and_each_vector_has_its_nearest_centre() -> None:
    vectors = np.random.default_rng(1).standard_normal((3000, 8))
    found = group(latents_of(vectors), 12, "kmeans", seed=0)
    full = KMeans(12, n_init=3, random_state=0).fit(vectors)
    assert found.distance < 1.03 * full.inertia_ / len(vectors)
    centres = np.stack([vectors[found.codes == n].mean(0) for n in range(12)])
    distances = ((vectors[:, None] - centres) ** 2).sum(2)
    assert found.distance == pytest.approx(distances.min(1).mean(), rel=0.02)


def test_the_same_for_a_seed_and_for_any_size_of_block(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = latents_of(np.random.default_rng(1).standard_normal((2000, 8)))
    monkeypatch.setattr(kmeans, "SAMPLE", 500)
    first, other = group(vectors, 12, "kmeans", 0), group(vectors, 12, "kmeans", 1)
    assert not np.array_equal(first.codes, other.codes)
    monkeypatch.setattr(latents, "BLOCK", 77)
    again = group(vectors, 12, "kmeans", 0)
    np.testing.assert_array_equal(first.codes, again.codes)
    assert again.distance == pytest.approx(first.distance, rel=1e-6)


def test_pca_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(0).standard_normal((300, 5)) * [5, 3, 1, 1, 1] + 100
    monkeypatch.setattr(latents, "BLOCK", 64)
    found = reduced(latents_of(vectors), "pca", 2, limit=10, seed=0).read(slice(0, 300))
    np.testing.assert_allclose(np.abs(found), np.abs(PCA(2).fit_transform(vectors)), atol=1e-3)


class FirstTwo:
    """UMAP takes a minute to compile: here, what it is asked for, and the first two dimensions."""

    def __init__(self, **settings: Any) -> None:
        assert settings == {"n_components": 2, "metric": "cosine", "random_state": 7}

    def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
        return vectors[:, :2]


def test_umap_is_of_the_first_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FirstTwo))
    vectors = np.random.default_rng(0).standard_normal((150, 5))
    plane = reduced(latents_of(vectors), "umap", 2, limit=120, seed=7)
    np.testing.assert_allclose(plane.read(slice(0, 150)), vectors[:120, :2], rtol=1e-6)


def test_rows_of_a_store_in_half_precision(tmp_path: Path) -> None:
    groups = np.random.default_rng(0).integers(0, 3, (2, 40))
    store = store_of(tmp_path / "s", {2: clouds(groups)}, dtype="float16")
    rows = np.arange(80)[::-1].copy()
    found = group(Latents("before, layer 2", store.layer(2).array, rows), 3, "kmeans", 0)
    assert adjusted_rand_score(groups.ravel()[::-1], found.codes) == 1


@pytest.mark.parametrize("method", METHODS)
def test_more_clusters_than_different_frames_are_refused(method: str) -> None:
    with pytest.raises(InputError, match=r"analysis\.clusters\.k=9 is more than the 4 different frames of before, lay"):
        group(latents_of(np.eye(4)), 9, method, 0)
    with pytest.raises(InputError, match="k=2 is more than the 1 different frames"):
        group(latents_of(np.ones((50, 3))), 2, method, 0)
    with pytest.raises(InputError, match="k=3 is more than the 2 different frames"):
        group(latents_of(np.repeat(np.eye(2), 20, axis=0)), 3, method, 0)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(broken: float) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 3))
    vectors[40, 1] = broken
    with pytest.raises(InputError, match="before, layer 3: the features hold a NaN or an infinite number"):
        group(latents_of(vectors), 3, "kmeans", 0)


def test_reductions_to_too_many_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="a PCA of 4 dimensions is more than the 3"):
        reduced(latents_of(np.eye(3)), "pca", 4, limit=10, seed=0)
    with pytest.raises(InputError, match="3 frames are too few for a UMAP of 2 dimensions"):
        reduced(latents_of(np.eye(3)), "umap", 2, limit=10, seed=0)


def test_null_vectors_have_a_cluster() -> None:
    vectors = np.vstack([np.zeros((5, 3)), np.eye(3).repeat(10, axis=0)])
    assert len(group(latents_of(vectors), 3, "spherical", 0).codes) == 35
