from types import SimpleNamespace
from typing import Any

import pytest
import torch
from answers import held_out
from sklearn.metrics import average_precision_score, roc_auc_score
from small import ARCHITECTURE
from torch.nn import functional

from w2v_abx.data import Batch
from w2v_abx.data.batch import Target, collate
from w2v_abx.errors import InputError
from w2v_abx.heads.head import States
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.models.encoder import Encoder

DIM = ARCHITECTURE["hidden_size"]


def made(categories: list[str], **settings: Any) -> Multilabel:
    counts = dict.fromkeys(categories, 2)
    data: Any = SimpleNamespace(
        counts=lambda label, split="train": counts,
        categories=lambda label, split="train": categories,
        has=lambda split: True,
    )
    return Multilabel(Encoder.random(ARCHITECTURE), data, "head", **settings)


def states(hidden: torch.Tensor, frames: list[int]) -> States:
    return States({1: hidden}, torch.tensor(frames))


def batch_of(target: Target) -> Batch:
    clips = len(target.present)
    audio, lengths = torch.zeros(clips, 400), torch.full((clips,), 400)
    return Batch([str(clip) for clip in range(clips)], ["noise"] * clips, audio, lengths, {"head": target})


def encoded(head: Multilabel, labels: dict[str, Any]) -> Any:
    clock: Any = None  # a label of the whole clip
    return head.target(labels, 0, clock)


def test_padded_frames_do_not_reach_the_logits() -> None:
    head, nothing = made(["bell", "rain", "wind"]), batch_of(collate([None]))
    hidden = torch.randn(2, 10, DIM)
    logits = head.predict(states(hidden, [10, 4]), nothing)
    hidden[1, 4:] = 1e3
    assert torch.allclose(head.predict(states(hidden, [10, 4]), nothing), logits)
    assert torch.allclose(head.predict(states(hidden[1:, :4], [4]), nothing), logits[1:], atol=1e-6)


def test_target_and_loss() -> None:
    head = made(["bell", "rain", "wind"], label="sounds")
    target = collate([encoded(head, {"sounds": ["wind", "bell"]}), encoded(head, {"sounds": []})])
    assert target.values.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert encoded(head, {"sounds": "wind"}).tolist() == [0, 0, 1]  # a text is one category, not its letters
    assert encoded(head, {"sounds": [[0.0, 0.5, "rain"], [0.5, 0.9, "bell"]]}).tolist() == [1, 1, 0]
    assert encoded(head, {"speaker": "x"}) is None
    given, batch = states(torch.randn(2, 5, DIM), [5, 3]), batch_of(target)
    logits = head.predict(given, batch)
    expected = 2 * functional.binary_cross_entropy_with_logits(logits, target.values)
    assert torch.allclose(head.loss_sum(given, batch)["loss"], expected)


def test_metrics_equal_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    head = made(["a", "b", "c", "never", "wherever"])
    logits = torch.randn(60, 5, generator=generator)
    target = (torch.rand(60, 5, generator=generator) < 0.3).float()
    target[:, 3], target[:, 4] = 0, 1
    for of_validation in range(2):  # the second time what was before is forgotten
        head.reset()
        for rows in (slice(0, 7), slice(7, 60)):
            values = target[rows] if of_validation else 1 - target[rows]
            head.update(logits[rows], held_out(head.name, values))
        result = head.result()
    precision = [average_precision_score(target[:, i], logits[:, i]) for i in range(3)]
    area = [roc_auc_score(target[:, i], logits[:, i]) for i in range(3)]
    assert result.metrics["map"] == pytest.approx(sum(precision) / 3, abs=1e-6)
    assert result.metrics["macro_auc"] == pytest.approx(sum(area) / 3, abs=1e-6)
    assert result.metrics["chance"] == pytest.approx(target[:, :3].mean().item(), abs=1e-6)
    assert result.metrics["clips"] == 60
    rows_of = {row["category"]: row for row in result.rows}
    for i, category in enumerate("abc"):
        assert rows_of[category]["ap"] == pytest.approx(precision[i], abs=1e-6)
        assert rows_of[category]["auc"] == pytest.approx(area[i], abs=1e-6)
        assert rows_of[category]["guess"] == pytest.approx(target[:, i].mean().item())
    assert rows_of["never"] == {"category": "never", "ap": None, "guess": 0.0, "auc": None, "positives": 0}
    assert rows_of["wherever"] == {"category": "wherever", "ap": None, "guess": 1.0, "auc": None, "positives": 60}
    assert result.plain()["rows"] == list(result.rows)


def test_one_rated_category_and_none() -> None:
    head = made(["a", "never"])
    for target, expected in (([[1.0, 0.0], [0.0, 0.0]], 1.0), ([[0.0, 0.0], [0.0, 0.0]], None)):
        head.reset()
        head.update(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), held_out(head.name, torch.tensor(target)))
        assert head.result().metrics["map"] == expected


def test_fewer_than_two_categories_are_named() -> None:
    with pytest.raises(InputError, match=r"objective\.heads\.head\.label=labels: .* 1 categories .* at least two"):
        made(["only"])


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_value_that_is_missing_is_no_label(value: Any) -> None:
    assert encoded(made(["bell", "rain"]), {"labels": value}) is None


@pytest.mark.parametrize("value", [3, True, {}, [None], [7]])
def test_a_value_that_is_no_category_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"objective\.heads\.head\.label=labels: a clip has .*, which is no category"):
        encoded(made(["bell", "rain"]), {"labels": value})
