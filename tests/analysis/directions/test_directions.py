"""Directions of labels, and the angles between them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.stats import ortho_group

from w2v_abx.analysis.directions.directions import directions, effects, orthogonality, overlap, share_within


def labels(points: int, classes: int, seed: int) -> np.ndarray:
    codes = np.random.default_rng(seed).integers(classes, size=points)
    codes[:classes] = np.arange(classes)
    return codes


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_effects_of_labels_that_come_unequally_often_are_those_that_were_added(seed: int) -> None:
    random = np.random.default_rng(seed)
    speakers, phones = labels(80, 4, seed), labels(80, 5, seed + 1)
    of_speakers, of_phones = random.normal(size=(4, 6)), random.normal(size=(5, 6))
    found = effects(3 + of_speakers[speakers] + of_phones[phones], speakers, phones)
    assert np.allclose(found[0], of_speakers - of_speakers.mean(0))
    assert np.allclose(found[1], of_phones - of_phones.mean(0))


def test_effects_of_balanced_labels_are_means() -> None:
    vectors = np.random.default_rng(0).normal(size=(24, 3))
    speakers, phones = np.repeat(np.arange(3), 8), np.tile(np.arange(4), 6)
    for label, found in zip((speakers, phones), effects(vectors, speakers, phones), strict=True):
        means = np.stack([vectors[label == code].mean(0) for code in range(int(label.max()) + 1)])
        assert np.allclose(found, means - vectors.mean(0))


def test_directions_hold_the_share_of_variance() -> None:
    basis = ortho_group.rvs(5, random_state=0)
    means = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]]) @ basis[:2] + 7  # variances 18 and 2 of 20
    for share, wanted in ((0.5, 1), (0.9, 1), (0.91, 2), (1.0, 2)):
        found = directions(means, share)
        assert found.shape == (5, wanted)
        assert np.allclose(found.T @ found, np.eye(wanted))
        assert np.allclose(subspace_angles(found, basis[:wanted].T), 0, atol=1e-6)
    assert directions(np.full((4, 5), 0.3), 0.9).shape == (5, 0)
    assert directions(np.zeros((1, 5)), 0.9).shape == (5, 0)
    assert share_within(means, basis[:1].T) == pytest.approx(0.9)


def test_overlap_is_the_mean_square_cosine_of_principal_angles() -> None:
    random = np.random.default_rng(1)
    one, other = (np.linalg.qr(random.normal(size=(9, r)))[0] for r in (2, 4))
    assert overlap(one, other) == pytest.approx(np.square(np.cos(subspace_angles(one, other))).mean())
    assert overlap(one, one) == pytest.approx(1)
    assert overlap(np.eye(5)[:, :2], np.eye(5)[:, 2:]) == 0
    many = [overlap(ortho_group.rvs(9, random_state=n)[:, :2], other) for n in range(400)]
    assert np.mean(many) == pytest.approx(4 / 9, abs=0.03)  # `Orthogonality.random`


def made(cosine: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Speakers along one axis, phones along another at an angle to it, in eight dimensions."""
    random = np.random.default_rng(seed)
    speakers, phones = labels(800, 8, seed), labels(800, 6, seed + 1)
    axis = np.zeros(8)
    axis[:2] = cosine, np.sqrt(1 - cosine**2)
    vectors = 0.3 * random.normal(size=(800, 8))
    vectors[:, 0] += 2 * random.normal(size=8)[speakers]
    return vectors + 2 * random.normal(size=6)[phones, None] * axis, speakers, phones


@pytest.mark.parametrize("cosine", [0.0, 0.6, 1.0])
def test_finds_the_angle_of_two_labels(cosine: float) -> None:
    found = orthogonality(*made(cosine), seed=1)
    assert found is not None
    assert (found.dims, found.first, found.second) == (8, 1, 1)
    assert found.overlap == pytest.approx(cosine**2, abs=0.05)
    assert found.angle == pytest.approx(np.degrees(np.arccos(cosine)), abs=5)
    assert found.taken == pytest.approx(cosine**2, abs=0.05)
    assert found.low <= found.overlap <= found.high
    assert found.random == 1 / 8
    assert found.floor == pytest.approx(1 / 8, abs=0.1)  # of noise that is alike in all directions
    assert found == orthogonality(*made(cosine), seed=1)


def test_labels_without_a_difference_have_no_directions() -> None:
    _, speakers, phones = made(0.0)
    assert orthogonality(np.ones((800, 8)), speakers, phones) is None
    assert orthogonality(np.eye(6)[phones], np.zeros(800, dtype=int), phones) is None


def test_one_unit_fewer_than_two_has_no_interval() -> None:
    vectors, speakers, phones = made(0.6)
    found = orthogonality(vectors, speakers % 2, phones)
    assert found is not None
    assert (found.low, found.high) == (None, None)
