"""Speech among labelled sounds, under a loss that needs no labels, so that a model keeps what it knows of speech."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from w2v_abx.config import require_choice
from w2v_abx.data import ShardDataModule
from w2v_abx.distributed.collectives import sum_over_ranks
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import Batch
from w2v_abx.training.selfsupervised import SelfSupervision

__all__ = ["Replay", "take", "unlabelled"]


def unlabelled(data: ShardDataModule) -> list[str]:
    """The corpora mixed into the training batches whose clips have no targets."""
    return [name for name, setting in data.mix.items() if not setting.targets]


class Replay(nn.Module):
    """A self-supervised loss on some of the clips of a supervised objective's batches.

    Args:
        encoder: the objective's.
        data: the prepared corpus, with what is mixed in.
        part: makes the loss from the encoder.
        weight: of its mean beside that of the heads' losses over the labelled clips.
        clips: ``replayed`` (those of mixed-in corpora without targets) or ``all``.

    Raises:
        InputError: values out of range, and no clips to replay.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        part: Callable[..., SelfSupervision],
        weight: float = 1.0,
        clips: str = "replayed",
    ) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise InputError(f"objective.replay.weight={weight} must be above 0")
        require_choice("objective.replay.clips", clips, ("replayed", "all"))
        self.corpora = None if clips == "all" else set(unlabelled(data))
        if self.corpora is not None and not self.corpora:
            raise InputError(
                "objective.replay has no clips: mix a corpus in that has no targets (data=replay "
                "data.mix.speech.folder=…), or give objective.replay.clips=all"
            )
        self.weight = weight
        try:
            self.part = part(encoder)
        except InputError as error:
            raise InputError(str(error).replace("objective.", "objective.replay.part.")) from error

    def rows(self, batch: Batch) -> list[int]:
        """Which clips of a batch are replayed."""
        return [row for row, name in enumerate(batch["corpora"]) if self.corpora is None or name in self.corpora]

    def begin(self, encoder: Encoder, batches: Iterable[Batch]) -> None:
        """Before the first step: what the part has to find on training clips."""
        self.part.begin(encoder, (take(batch, rows) for batch in batches if (rows := self.rows(batch))))

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        """Adds ``replay``, what the part prepared for its clips in the rows where they are, and ``replay_scale``.

        The latter is the ratio of the clips of the effective batch to the part's normaliser, on all ranks together.
        """
        rows = self.rows(batch)
        taken = take(batch, rows)
        prepared = self.part.prepare(encoder, taken, step)  # of all ranks: it may sum over them
        device = batch["waveforms"].device
        rated = torch.as_tensor(self.part.normaliser(prepared), dtype=torch.float32).to(device, non_blocking=True)
        clips = sum_over_ranks(torch.full((), float(len(batch["keys"])), device=device))
        scale = clips / sum_over_ranks(rated).clamp(min=1.0)  # of zeros, where nothing is rated
        new = {name: value for name, value in prepared.items() if name not in taken or value is not taken[name]}
        return {**batch, "replay": _spread(new, rows, len(batch["keys"])), "replay_scale": scale}

    def loss_sum(self, encoder: Encoder, micro: Batch) -> dict[str, Tensor]:
        """The part's sums over the replayed clips of a prepared batch, scaled to be divided by the number of all clips;
        empty where there is none."""
        rows = self.rows(micro)
        if not rows:
            return {}
        sums = self.part.loss_sum(encoder, take({**micro, **micro["replay"]}, rows))
        return {name: value * micro["replay_scale"] for name, value in sums.items()}


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some clips of a batch, padded no longer than the longest of them."""
    total = len(batch["keys"])
    taken: Batch = dict(batch) if len(rows) == total else _take(batch, rows, total)
    lengths: list[int] = taken["lengths"].tolist()
    taken["waveforms"] = taken["waveforms"][:, : max(lengths, default=0)]
    return taken


def _take(value: Any, rows: Sequence[int], total: int) -> Any:
    if isinstance(value, dict):
        return {name: _take(entry, rows, total) for name, entry in value.items()}
    if isinstance(value, list):
        return [value[row] for row in rows]
    if isinstance(value, Tensor) and value.ndim:
        return value[_index(rows, value.device)]
    return value


def _spread(value: Any, rows: Sequence[int], total: int) -> Any:
    """The opposite of `_take`: nothing in the rows of the other clips."""
    if isinstance(value, dict):
        return {name: _spread(entry, rows, total) for name, entry in value.items()}
    if isinstance(value, list):
        placed = dict(zip(rows, value, strict=True))
        return [placed.get(row) for row in range(total)]
    if isinstance(value, Tensor) and value.ndim:
        return value.new_zeros(total, *value.shape[1:]).index_copy(0, _index(rows, value.device), value)
    return value


def _index(rows: Sequence[int], device: torch.device) -> Tensor:
    """Made on the CPU: on the device the host would wait for it."""
    return torch.tensor(rows, dtype=torch.long).to(device, non_blocking=True)
