"""Sums over points, by cell and class, against those of arrays in memory."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from stores import frame_items, item_features, made_store

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis import points
from w2v_abx.analysis.correlation import moments
from w2v_abx.analysis.correlation.labelling import partitions
from w2v_abx.analysis.correlation.moments import Side, Sums, add_up, cross_products
from w2v_abx.analysis.points import Points


@pytest.fixture
def speech() -> Speech:
    random = np.random.default_rng(0)
    rows = [(f"s{s}", f"s{s}_{f}") for s in range(4) for f in range(3) for _ in range(7)]
    return frame_items(
        file=[file for _, file in rows],
        speaker=[speaker for speaker, _ in rows],
        sex=["fm"[int(speaker[1]) % 2] for speaker, _ in rows],
        tone=random.choice(["1", "2", "-"], len(rows)).tolist(),
        **{"#phone": random.choice(["a", "b", "c"], len(rows)).tolist()},
    )


def features(speech: Speech, dim: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    vectors = np.random.default_rng(seed).normal(size=(len(speech.items), dim)) + 100
    return item_features(speech, vectors, 0.5, seed)


@pytest.mark.parametrize("level", ["segments", "frames"])
@pytest.mark.parametrize("size", [3, 1000])
def test_sums_are_those_of_all_vectors_at_once(
    tmp_path: Path, speech: Speech, level: points.Level, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "BATCH", size)
    monkeypatch.setattr(moments, "CHUNK", max(2, size // 2))
    store = made_store(tmp_path / "store", {0: features(speech)})
    drawn = Points.draw(speech.items, 50, level, 60, 0)
    (part,) = partitions(drawn, ["#phone", "tone", "sex"], 3, 2, 0)
    found = add_up(drawn, store, 0, part.cells, len(part.fold), part.members())
    vectors = drawn.vectors(store, 0).astype(np.float64)
    vectors -= vectors[0]
    cells = part.cells[drawn.item]
    for cell in range(len(part.fold)):
        own = vectors[cells == cell]
        assert found.n[cell] == len(own)
        np.testing.assert_allclose(found.x[cell], own.sum(0), atol=1e-9)
        np.testing.assert_allclose(found.xx[cell], own.T @ own, atol=1e-9)
    for one, sums in zip(part.labellings, part.by_label(found.classes), strict=True):
        for permutation, codes in enumerate(one.codes):
            for fold in range(part.number):
                for code in range(len(one.classes)):
                    own = (codes[drawn.item] == code) & (part.folds[drawn.item] == fold)
                    np.testing.assert_allclose(sums[permutation, fold, code], vectors[own].sum(0), atol=1e-9)


def test_products_of_two_models(tmp_path: Path, speech: Speech) -> None:
    stores = [made_store(tmp_path / str(dim), {0: features(speech, dim, dim)}) for dim in (3, 5)]
    drawn = Points.draw(speech.items, 50, "segments")
    cells = np.arange(len(speech.items)) % 2
    found = cross_products(drawn, stores, (0, 0), cells, 2)
    one, other = (drawn.vectors(store, 0).astype(np.float64) for store in stores)
    one, other = one - one[0], other - other[0]
    np.testing.assert_allclose(found[1], one[1::2].T @ other[1::2], atol=1e-9)


def test_a_large_mean_leaves_the_variances_exact(tmp_path: Path) -> None:
    speech = frame_items(file=["a"] * 300)
    random = np.random.default_rng(0)
    small = random.normal(size=(300, 2)) * [1, 1e-2] + 3000
    store = made_store(tmp_path / "store", {0: item_features(speech, small)})
    drawn = Points.draw(speech.items, 50, "segments")
    none = csr_matrix((300, 0))
    found = add_up(drawn, store, 0, np.zeros(300, dtype=np.int64), 1, none)
    side = Side.of(Sums(*(part[0] for part in found[:3])))
    vectors = drawn.vectors(store, 0).astype(np.float64)
    np.testing.assert_allclose(side.variances, np.linalg.eigvalsh(np.cov(vectors.T, bias=True))[::-1], rtol=1e-9)


def test_the_fewest_directions_that_have_the_share() -> None:
    side = Side(np.zeros(4), np.array([6.0, 3.0, 0.9, 0.1]), np.eye(4))
    assert [len(side.kept(share).variances) for share in (0.5, 0.6, 0.61, 0.9, 0.99, 1.0)] == [1, 1, 2, 2, 3, 4]
