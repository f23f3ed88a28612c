"""Find any number of categories in each clip."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.classification import multilabel_auroc, multilabel_average_precision

from w2v_abx.data.batch import Batch
from w2v_abx.data.module import ShardDataModule
from w2v_abx.distributed.collectives import gather_rows
from w2v_abx.heads.head import CategoryHead, HeadResult, States
from w2v_abx.heads.pooling import Kind, Pooling
from w2v_abx.heads.readout import Readout
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.encoder import Encoder

__all__ = ["Multilabel"]

TITLES = {
    "map": "mAP",
    "macro_auc": "ROC-AUC (macro)",
    "chance": "mAP of a guess",
    "ap": "average precision",
    "guess": "of a guess",
    "auc": "ROC-AUC",
}


class Multilabel(CategoryHead):
    """Binary cross-entropy of each category on the pooled frames, through one linear layer.

    Args:
        pooling: see `w2v_abx.heads.pooling.Pooling`.
        options: see `CategoryHead`.
    """

    logged = ("map", "macro_auc")

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        name: str,
        label: str = "labels",
        pooling: Kind = "mean",
        **options: Any,
    ) -> None:
        super().__init__(encoder, data, name, label, **options)
        self.pooling = Pooling(pooling, encoder.dim)
        self.linear = nn.Linear(self.pooling.size, len(self.categories))
        self.reset()

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        """Make (C,) float32, one where the clip carries the category."""
        if (carried := self.carried(labels)) is None:
            return None
        return torch.tensor([float(category in carried) for category in self.categories])

    def readout(self) -> Readout | None:
        return self._readout("multilabel", self.categories, self.linear) if self.pooling.kind == "mean" else None

    def predict(self, states: States, batch: Batch) -> Tensor:
        """Compute logits (B, C)."""
        logits: Tensor = self.linear(self.pooling(self.mixed(states), states.frames))
        return logits

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        """Sum over the clips the mean over the categories."""
        logits, target = self.predict(states, batch).float(), self.own(batch).values
        return {"loss": functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1).sum()}

    def reset(self) -> None:
        # Average precision needs the scores of all clips: four bytes for each category of each.
        self._logits: list[Tensor] = [torch.zeros(0, len(self.categories))]
        self._targets: list[Tensor] = [torch.zeros(0, len(self.categories))]

    def update(self, predicted: Tensor, batch: Batch) -> None:
        self._logits.append(predicted.float().cpu())
        self._targets.append(self.own(batch).values.cpu())

    def result(self) -> HeadResult:
        """Compute average precision and ROC-AUC of each category and their means, over all clips.

        A category that every clip or no clip carries has neither; it is listed with None and left out of the means.
        ``chance`` is the mean average precision of a head that guesses: the mean proportion of positives.
        """
        logits, target = gather_rows(torch.cat(self._logits)), gather_rows(torch.cat(self._targets)).long()
        clips, positives = len(target), target.sum(0)
        rated = [i for i, n in enumerate(positives.tolist()) if 0 < n < clips]
        rows: list[dict[str, Any]] = [
            {"category": category, "ap": None, "guess": n / max(1, clips), "auc": None, "positives": n}
            for category, n in zip(self.categories, positives.tolist(), strict=True)
        ]
        if not rated:
            return HeadResult({"map": None, "macro_auc": None, "chance": None, "clips": clips}, rows, titles=TITLES)
        chosen = (logits[:, rated], target[:, rated])
        if len(rated) == 1:  # torchmetrics takes two labels or more: rate the one twice
            chosen = (chosen[0].repeat(1, 2), chosen[1].repeat(1, 2))
        precision = multilabel_average_precision(*chosen, num_labels=chosen[0].shape[1], average="none")
        area = multilabel_auroc(*chosen, num_labels=chosen[0].shape[1], average="none")
        for column, index in enumerate(rated):
            rows[index].update(ap=precision[column].item(), auc=area[column].item())
        metrics = {
            "map": precision[: len(rated)].mean().item(),
            "macro_auc": area[: len(rated)].mean().item(),
            "chance": (positives[rated] / clips).mean().item(),
            "clips": clips,
        }
        return HeadResult(metrics, rows=rows, drawn="ap", titles=TITLES, tables=self.layer_weights())
