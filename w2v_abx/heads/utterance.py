"""Find the one category of each clip: its speaker, emotion or word."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.data.batch import Batch
from w2v_abx.data.module import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.confusion import Confusion, speaker_of
from w2v_abx.heads.head import CategoryHead, HeadResult, States
from w2v_abx.heads.pooling import Kind, Pooling
from w2v_abx.heads.readout import Readout
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.encoder import Encoder

__all__ = ["Utterance"]

TITLES = {
    "accuracy": "accuracy (weighted, WA)",
    "unweighted_accuracy": "mean recall (unweighted, UA)",
    "chance": "accuracy of always the most frequent",
}


class Utterance(CategoryHead):
    """Cross-entropy over the categories on the pooled frames, through one linear layer.

    Args:
        pooling: see `w2v_abx.heads.pooling.Pooling`.
        options: see `CategoryHead`.
    """

    logged = ("accuracy", "unweighted_accuracy")

    def __init__(
        self, encoder: Encoder, data: ShardDataModule, name: str, label: str, pooling: Kind = "mean", **options: Any
    ) -> None:
        super().__init__(encoder, data, name, label, **options)
        self.numbers = {category: number for number, category in enumerate(self.categories)}
        self.pooling = Pooling(pooling, encoder.dim)
        self.linear = nn.Linear(self.pooling.size, len(self.categories))
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

    def readout(self) -> Readout | None:
        return self._readout("utterance", self.categories, self.linear) if self.pooling.kind == "mean" else None

    def predict(self, states: States, batch: Batch) -> Tensor:
        """Compute logits (B, C)."""
        logits: Tensor = self.linear(self.pooling(self.mixed(states), states.frames))
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
        self._confusion = Confusion(len(self.categories))

    def update(self, predicted: Tensor, batch: Batch) -> None:
        truth, taken = self.own(batch).values.cpu().numpy(), predicted.argmax(-1).cpu().numpy()
        for row in range(len(batch)):
            # Speakers are what is found out, not those from whom it may generalise to others.
            unit = speaker_of(batch, row, known=self.label != "speaker")
            self._confusion.add(unit, truth[row : row + 1], taken[row : row + 1])

    def result(self) -> HeadResult:
        """Compute accuracy over clips (WA), mean recall over categories (UA), and the confusion matrix."""
        confusion = self._confusion.gathered()
        if not confusion.total:
            return HeadResult()
        return HeadResult(
            {**confusion.metrics(), "clips": confusion.total},
            intervals=confusion.intervals(),
            over=confusion.over,
            rows=confusion.rows(self.categories, "clips"),
            drawn="recall",
            labels=self.categories,
            confusion=confusion.matrix.tolist(),
            titles=TITLES,
            tables=self.layer_weights(),
            notes=[confusion.compared_with_chance("clips")],
        )
