"""One category per clip: target, loss and the metrics, held against scikit-learn."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from answers import held_out
from sklearn.metrics import accuracy_score, confusion_matrix
from small import ARCHITECTURE
from torch.nn import functional

from w2v_abx.data.batch import Batch, collate
from w2v_abx.errors import InputError
from w2v_abx.heads.head import States
from w2v_abx.heads.utterance import Utterance
from w2v_abx.models.encoder import Encoder

DIM = ARCHITECTURE["hidden_size"]


def made(categories: list[str], **settings: Any) -> Utterance:
    counts = dict.fromkeys(categories, 2)
    data: Any = SimpleNamespace(
        counts=lambda label, split="train": counts,
        categories=lambda label, split="train": categories,
        has=lambda split: True,
    )
    return Utterance(Encoder.random(ARCHITECTURE), data, "who", "speaker", **settings)


def encoded(head: Utterance, labels: dict[str, Any]) -> torch.Tensor | None:
    clock: Any = None  # a label of the whole clip
    return head.target(labels, 0, clock)


def test_target_is_the_number_of_the_category() -> None:
    head = made(["ann", "bob"])
    assert encoded(head, {"speaker": "bob"}) == torch.tensor(1)
    assert encoded(head, {"speaker": ["ann"]}) == torch.tensor(0)
    assert encoded(head, {"emotion": "calm"}) is None
    assert encoded(head, {"speaker": []}) is None
    assert encoded(head, {"speaker": "cy"}) is None  # of a held-out clip alone: it cannot be learnt
    with pytest.raises(InputError, match=r"objective\.heads\.who\.label=speaker: a clip has ann, bob, .*multilabel"):
        encoded(head, {"speaker": ["bob", "ann"]})


def test_loss_is_the_cross_entropy_of_clips_that_have_the_label() -> None:
    head = made(["ann", "bob"])
    target = collate([torch.tensor(1), None, torch.tensor(0)])
    assert target.values.tolist() == [1, -100, 0]
    batch = Batch(["a", "b", "c"], ["x"] * 3, torch.zeros(3, 400), torch.full((3,), 400), {"who": target})
    hidden, frames = torch.randn(3, 4, DIM), torch.tensor([4, 2, 3])
    rows = head.concerned(batch)
    assert rows == [0, 2]
    states = States({ARCHITECTURE["num_hidden_layers"]: hidden}, frames).rows(rows)
    logits = head.predict(states, batch.rows(rows))
    expected = 2 * functional.cross_entropy(logits, torch.tensor([1, 0]))
    assert torch.allclose(head.loss_sum(states, batch.rows(rows))["loss"], expected)


def test_metrics_equal_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    head = made(["ann", "bob", "cy", "never"])
    truth, guess = generator.integers(0, 3, 40), generator.integers(0, 4, 40)
    for of_validation in range(2):  # the second time what was before is forgotten
        head.reset()
        for rows in (slice(0, 13), slice(13, 40)):
            values = torch.from_numpy(truth[rows] if of_validation else 2 - truth[rows])
            logits = functional.one_hot(torch.from_numpy(guess[rows]), 4).float()
            head.update(logits, held_out(head.name, values))
    result = head.result()
    assert result.metrics["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    matrix = confusion_matrix(truth, guess, labels=range(4))
    assert [list(row) for row in result.confusion] == matrix.tolist()
    recall = [matrix[n, n] / matrix[n].sum() for n in range(3)]
    assert result.metrics["unweighted_accuracy"] == pytest.approx(np.mean(recall))
    assert result.metrics["chance"] == pytest.approx(np.bincount(truth).max() / 40)
    assert [row["recall"] for row in result.rows] == [*map(pytest.approx, recall), None]


def test_nothing_validated_is_no_result() -> None:
    assert not made(["ann", "bob"]).result().metrics
