"""Find the one category of each clip: its speaker, emotion or word."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.data.batch import Batch
from w2v_abx.data.module import ShardDataModule
from w2v_abx.distributed.collectives import sum_over_ranks
from w2v_abx.errors import InputError
from w2v_abx.heads.head import CategoryHead, HeadResult, States
from w2v_abx.heads.pooling import mean_over_frames
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.encoder import Encoder

__all__ = ["Utterance"]

TITLES = {
    "accuracy": "accuracy (weighted, WA)",
    "unweighted_accuracy": "mean recall (unweighted, UA)",
    "chance": "accuracy of always the most frequent",
}


class Utterance(CategoryHead):
    """Cross-entropy over the categories on the mean over valid frames, through one linear layer.

    Args: see `CategoryHead`.
    """

    logged = ("accuracy", "unweighted_accuracy")

    def __init__(self, encoder: Encoder, data: ShardDataModule, name: str, label: str, **options: Any) -> None:
        super().__init__(encoder, data, name, label, **options)
        self.numbers = {category: number for number, category in enumerate(self.categories)}
        self.linear = nn.Linear(encoder.dim, len(self.categories))
        self.reset()

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        """Make the number of the category, int64; None also for one that no training clip has.

        Raises:
            InputError: a clip with several categories.
        """
        if (carried := self.carried(labels)) is None:
            return None
        if len(carried) > 1:
            raise InputError(
                f"{self.key('label')}={self.label}: a clip has {', '.join(sorted(carried))}, and this head knows one "
                "category per clip; take head=multilabel"
            )
        number = self.numbers.get(*carried) if carried else None
        return None if number is None else torch.tensor(number)

    def predict(self, states: States, batch: Batch) -> Tensor:
        """Compute logits (B, C)."""
        logits: Tensor = self.linear(mean_over_frames(self.mixed(states), states.frames))
        return logits

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        """Sum over the clips the cross-entropy, and count those that are right."""
        logits, target = self.predict(states, batch).float(), self.own(batch).values
        return {
            "loss": functional.cross_entropy(logits, target, reduction="sum"),
            "accuracy": (logits.argmax(-1) == target).sum(),
        }

    def summary(self, sums: Mapping[str, Tensor], total: float) -> dict[str, Tensor]:
        return {"loss": sums["loss"] / total}  # the accuracy is a metric

    def reset(self) -> None:
        self._confusion = torch.zeros(len(self.categories), len(self.categories), dtype=torch.int64)

    def update(self, predicted: Tensor, batch: Batch) -> None:
        pairs = self.own(batch).values.cpu(), predicted.argmax(-1).cpu()
        self._confusion.index_put_(pairs, torch.ones(len(pairs[0]), dtype=torch.int64), accumulate=True)

    def result(self) -> HeadResult:
        """Compute accuracy over clips (WA), mean recall over categories (UA), and the confusion matrix."""
        confusion = sum_over_ranks(self._confusion)
        clips, right = confusion.sum(1), confusion.diagonal()
        total = int(clips.sum())
        if not total:
            return HeadResult()
        recall = [right[n].item() / clips[n].item() if clips[n] else None for n in range(len(clips))]
        rated = [value for value in recall if value is not None]
        taken = confusion.sum(0)
        rows = [
            {
                "category": category,
                "recall": recall[n],
                "precision": right[n].item() / taken[n].item() if taken[n] else None,
                "clips": int(clips[n]),
            }
            for n, category in enumerate(self.categories)
        ]
        metrics = {
            "accuracy": right.sum().item() / total,
            "unweighted_accuracy": sum(rated) / len(rated),
            "chance": clips.max().item() / total,
            "clips": total,
        }
        return HeadResult(
            metrics, rows, drawn="recall", labels=self.categories, confusion=confusion.tolist(), titles=TITLES
        )
