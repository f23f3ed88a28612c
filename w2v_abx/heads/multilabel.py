"""What is asked of an encoder: the target, loss and metric of one task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.classification import multilabel_auroc, multilabel_average_precision

from w2v_abx.errors import InputError
from w2v_abx.models.convolutions import valid_mask
from w2v_abx.shards import categories_of

__all__ = ["Multilabel"]


class Multilabel(nn.Module):
    """Any number of categories per clip: mean over valid frames, then one linear layer.

    Args:
        dim: width of the encoder's layers.
        categories: gives, for a label's name, every category that the training clips carry.
        target: the clips' label that holds their list of categories.
        weight: weight of this head's loss beside other heads.

    Raises:
        InputError: fewer than two categories.
    """

    def __init__(
        self, dim: int, categories: Callable[[str], Sequence[str]], target: str = "labels", weight: float = 1.0
    ) -> None:
        super().__init__()
        self.categories = list(categories(target))
        if len(self.categories) < 2:
            raise InputError(
                f"objective.heads: the label {target!r} has {len(self.categories)} categories in the training clips; "
                "a multilabel head needs at least two"
            )
        self.target = target
        self.weight = weight
        self.linear = nn.Linear(dim, len(self.categories))

    def encode(self, labels: Mapping[str, Any]) -> Tensor:
        """The target of one clip: ``(C,)`` float32, one where the clip carries the category."""
        if self.target not in labels:
            raise InputError(f"a clip carries no label {self.target!r}; it has {', '.join(labels) or 'none'}")
        carried = categories_of(labels[self.target])
        return torch.tensor([float(category in carried) for category in self.categories])

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Logits ``(B, C)`` from the last layer ``(B, F, D)`` and its valid frames ``(B,)``."""
        valid = valid_mask(lengths, hidden.shape[1]).unsqueeze(-1)
        mean = (hidden * valid).sum(1) / lengths[:, None]
        logits: Tensor = self.linear(mean)
        return logits

    def loss_sum(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy, mean over the categories, summed over the clips."""
        return functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(1).sum()

    def metrics(self, logits: Tensor, target: Tensor) -> dict[str, Any]:
        """Average precision and ROC-AUC per category and their means, over all clips ``(N, C)``.

        A category that every clip or no clip carries has neither; it is listed with ``None`` and left out of the means.
        ``chance`` is the mean average precision of a head that guesses: the mean share of positives.
        """
        target = target.long()
        positives = target.sum(0)
        rated = [i for i, n in enumerate(positives.tolist()) if 0 < n < len(target)]
        categories: dict[str, dict[str, float | int | None]] = {
            category: {"ap": None, "auc": None, "positives": int(n)}
            for category, n in zip(self.categories, positives.tolist(), strict=True)
        }
        if not rated:
            return {"map": None, "macro_auc": None, "chance": None, "clips": len(target), "categories": categories}
        chosen = (logits[:, rated].float(), target[:, rated])
        if len(rated) == 1:  # torchmetrics takes two labels or more: rate the one twice
            chosen = (chosen[0].repeat(1, 2), chosen[1].repeat(1, 2))
        precision = multilabel_average_precision(*chosen, num_labels=chosen[0].shape[1], average="none")
        area = multilabel_auroc(*chosen, num_labels=chosen[0].shape[1], average="none")
        for column, index in enumerate(rated):
            categories[self.categories[index]].update(ap=precision[column].item(), auc=area[column].item())
        return {
            "map": precision[: len(rated)].mean().item(),
            "macro_auc": area[: len(rated)].mean().item(),
            "chance": (positives[rated] / len(target)).mean().item(),
            "clips": len(target),
            "categories": categories,
        }
