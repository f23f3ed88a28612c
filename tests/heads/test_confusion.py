"""Accuracies and their intervals over speakers, against scikit-learn without each speaker in turn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from w2v_abx.heads import confusion
from w2v_abx.heads.confusion import Confusion
from w2v_abx.statistics.ratios import jackknife_interval

CLASSES, SPEAKERS = 4, 6


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who spoke, what it was and what it was taken for; the last class never occurs."""
    rng = np.random.default_rng(0)
    speaker = rng.integers(0, SPEAKERS, 300)
    truth = rng.integers(0, CLASSES - 1, 300)
    # Some speakers are understood better than others.
    taken = np.where(rng.random(300) < 0.4 + 0.1 * speaker, truth, rng.integers(0, CLASSES, 300))
    return speaker, truth, taken


def counted(speaker: np.ndarray, truth: np.ndarray, taken: np.ndarray) -> Confusion:
    found = Confusion(CLASSES)
    for one in np.unique(speaker):
        found.add(f"speaker x/{one}", truth[speaker == one], taken[speaker == one])
    return found


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_intervals_leave_out_each_speaker_in_turn(answers: tuple[np.ndarray, ...]) -> None:
    speaker, truth, taken = answers
    found = counted(*answers)
    scores = {"accuracy": accuracy_score, "unweighted_accuracy": balanced_accuracy_score}
    assert found.over == "6 speakers"
    for metric, score in scores.items():
        whole = score(truth, taken)
        without = [score(truth[speaker != one], taken[speaker != one]) for one in range(SPEAKERS)]
        assert found.metrics()[metric] == pytest.approx(whole)
        assert found.intervals()[metric] == pytest.approx(jackknife_interval(whole, without))


def test_ranks_count_as_one(answers: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Speakers whose clips lie in several ranks, too."""
    ranks = [counted(*(part[rank::2] for part in answers)) for rank in range(2)]
    monkeypatch.setattr(confusion, "sum_over_ranks", lambda _: torch.from_numpy(ranks[0].matrix + ranks[1].matrix))
    monkeypatch.setattr(
        confusion, "gather", lambda _: [{name: of.tolist() for name, of in rank._found.items()} for rank in ranks]
    )
    found, whole = ranks[0].gathered(), counted(*answers)
    assert np.array_equal(found.matrix, whole.matrix)
    assert found.metrics() == whole.metrics()
    assert found.intervals() == whole.intervals()


def test_what_chance_is_said_to_be() -> None:
    found = Confusion(2)
    found.add("speaker x/ann", np.array([0, 0, 1]), np.array([0, 0, 1]))
    assert found.compared_with_chance("clips") == (
        "The accuracy of clips is 1.000, beside 0.667, that of always the most frequent class; one speaker, or several "
        "alike, give no interval."
    )
    for speaker in ("speaker x/bob", "clip x/3"):
        found.add(speaker, np.array([0, 1, 1, 1, 0] * 4), np.array([0, 1, 1, 1, 1] * 4))
    assert found.over == "2 speakers and 1 clips"
    assert "is above 0.581, that of always the most frequent class." in found.compared_with_chance("clips")
    for speaker in ("speaker x/ann", "speaker x/cy"):
        found.add(speaker, np.array([0, 1] * 9), np.array([1, 0] * 9))
    assert "cannot be told from" in found.compared_with_chance("clips")
