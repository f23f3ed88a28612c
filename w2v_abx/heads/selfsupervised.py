"""Heads that need no labels: they hide a part of their input, and ask for it."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from w2v_abx.data.batch import Batch, Whole
from w2v_abx.data.module import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.head import Head
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import checks

__all__ = ["SelfSupervisedHead"]


class SelfSupervisedHead(Head):
    """A loss on masked input, of all clips or of those without labels (replay).

    Args:
        clips: ``all``, or ``unlabelled``: those for which no other head has a target, as of a corpus that is mixed in
            so that the model does not forget it (experience replay).
        options: see `Head`.

    Raises:
        InputError: an encoder that cannot be masked; ``unlabelled`` where all clips have labels.
    """

    shares_pass = False

    def __init__(self, encoder: Encoder, data: ShardDataModule, name: str, clips: str = "all", **options: Any) -> None:
        super().__init__(encoder, data, name, **options)
        self.clips = checks.choice(self.key("clips"), clips, ("all", "unlabelled"))
        if clips == "unlabelled" and all(mixed.targets for mixed in data.mix.values()):
            raise InputError(
                f"{self.key('clips')}=unlabelled finds none: mix a corpus in that has no targets (data=replay "
                f"data.mix.speech.folder=…), or give {self.key('clips')}=all"
            )
        if getattr(encoder.model, "masked_spec_embed", None) is None:
            raise InputError(
                "this model has no mask embedding, which a self-supervised head trains: set mask_time_prob above 0 in "
                "its config.json"
            )

    @abstractmethod
    def draw(self, encoder: Encoder, batch: Batch, step: int) -> dict[str, Any]:
        """Draw what is random for these clips, which may be none: tensors (B, …), lists of B, and `Whole` values."""

    def concerned(self, batch: Batch) -> list[int]:
        if self.clips == "all":
            return list(range(len(batch)))
        labelled = torch.zeros(len(batch), dtype=torch.bool)
        for target in batch.targets.values():
            labelled |= target.present
        return (~labelled).nonzero()[:, 0].tolist()

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        rows = self.concerned(batch)
        drawn = self.draw(encoder, batch.rows(rows), step)
        if len(rows) < len(batch):
            drawn = {name: _spread(value, rows, len(batch)) for name, value in drawn.items()}
        return super().prepare(encoder, batch.with_extra(**{self.name: drawn}), step)


def _spread(value: Any, rows: Sequence[int], total: int) -> Any:
    """Put what belongs to the clips at ``rows`` there, among nothing for the others."""
    if isinstance(value, Whole):
        return value
    if isinstance(value, Tensor):
        index = torch.tensor(rows, dtype=torch.long).to(value.device, non_blocking=True)
        return value.new_zeros(total, *value.shape[1:]).index_copy(0, index, value)
    placed = dict(zip(rows, value, strict=True))
    return [placed.get(row, 0) for row in range(total)]
