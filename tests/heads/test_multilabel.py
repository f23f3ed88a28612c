import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn import functional

from w2v_abx.errors import InputError
from w2v_abx.heads.multilabel import Multilabel


def test_padded_frames_do_not_reach_the_logits() -> None:
    head = Multilabel(8, lambda _: ["bell", "rain", "wind"])
    hidden = torch.randn(2, 10, 8)
    lengths = torch.tensor([10, 4])
    logits = head(hidden, lengths)
    hidden[1, 4:] = 1e3
    assert torch.allclose(head(hidden, lengths), logits)
    assert torch.allclose(head(hidden[1:, :4], torch.tensor([4])), logits[1:], atol=1e-6)


def test_target_and_loss() -> None:
    head = Multilabel(8, lambda _: ["bell", "rain", "wind"], target="sounds")
    target = torch.stack([head.encode({"sounds": ["wind", "bell"]}), head.encode({"sounds": []})])
    assert target.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert head.encode({"sounds": "wind"}).tolist() == [0, 0, 1]  # a text is one category, not its letters
    assert head.encode({"sounds": [[0.0, 0.5, "rain"], [0.5, 0.9, "bell"]]}).tolist() == [1, 1, 0]
    logits = torch.randn(2, 3)
    expected = 2 * functional.binary_cross_entropy_with_logits(logits, target)
    assert torch.allclose(head.loss_sum(logits, target), expected)


def test_metrics_equal_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    head = Multilabel(8, lambda _: ["a", "b", "c", "never", "always"])
    logits = torch.randn(60, 5, generator=generator)
    target = (torch.rand(60, 5, generator=generator) < 0.3).float()
    target[:, 3], target[:, 4] = 0, 1
    metrics = head.metrics(logits, target)
    precision = [average_precision_score(target[:, i], logits[:, i]) for i in range(3)]
    area = [roc_auc_score(target[:, i], logits[:, i]) for i in range(3)]
    assert metrics["map"] == pytest.approx(sum(precision) / 3, abs=1e-6)
    assert metrics["macro_auc"] == pytest.approx(sum(area) / 3, abs=1e-6)
    assert metrics["chance"] == pytest.approx(target[:, :3].mean().item(), abs=1e-6)
    for i, category in enumerate("abc"):
        assert metrics["categories"][category]["ap"] == pytest.approx(precision[i], abs=1e-6)
        assert metrics["categories"][category]["auc"] == pytest.approx(area[i], abs=1e-6)
    assert metrics["categories"]["never"] == {"ap": None, "auc": None, "positives": 0}
    assert metrics["categories"]["always"] == {"ap": None, "auc": None, "positives": 60}


def test_one_rated_category_and_none() -> None:
    head = Multilabel(8, lambda _: ["a", "never"])
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert head.metrics(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), target)["map"] == 1.0
    assert head.metrics(torch.zeros(2, 2), torch.zeros(2, 2))["map"] is None


def test_bad_labels_are_named() -> None:
    with pytest.raises(InputError, match="at least two"):
        Multilabel(8, lambda _: ["only"])
    with pytest.raises(InputError, match="no label 'labels'; it has speaker"):
        Multilabel(8, lambda _: ["a", "b"]).encode({"speaker": "x"})
