"""ABX as a torchmetrics metric, for anyone's LightningModule."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.utilities.exceptions import TorchMetricsUserError

from w2v_abx.abx.averaging import Levels
from w2v_abx.abx.scoring import Scorer, Scores
from w2v_abx.abx.task import Task
from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.features.kept import Kept, KeptFeatures, NeededFrames, Room, exchange
from w2v_abx.items.items import Items

__all__ = ["AbxMetric"]

OF_METRICS = (  # torchmetrics' own arguments
    "compute_on_cpu",
    "process_group",
    "dist_sync_fn",
    "distributed_available_fn",
    "sync_on_compute",
    "compute_with_cache",
)


class AbxMetric(torchmetrics.Metric):
    """The ABX error of features that come batch by batch.

    In a LightningModule, also under distributed training::

        def __init__(self, ...):
            self.abx = AbxMetric(items, Task.preset("across"), frequency=50)
        def validation_step(self, batch, batch_index):
            features, lengths = self.encode(batch)                          # (B, F, D), (B,)
            self.abx.update(batch["names"], features, lengths)
            self.log("abx", self.abx, on_step=False, on_epoch=True)

    Files that the items do not name are left out. Each file counts once: one that comes again (as a sampler repeats
    some to give every rank the same number) changes nothing, the first is kept. Features keep their type, and are
    scored in float32; only the frames that some item needs are kept, on the device that they came on while they fit
    there (see ``device_bytes``). Distributed, all ranks' features are gathered and the cells divided over
    the ranks; the error is that of one process to the last bit, and the same on every rank.

    The features are no part of a module's ``state_dict``, and ``forward`` only updates: a batch alone has no error.

    Args:
        items, task, frequency: as for `Scorer`; so are all ``options`` (``distance``, ``max_size_group``, …), except
            those that torchmetrics knows (``sync_on_compute``, ``process_group``, …).
        levels, weighted: as for `Scores.error`.
        device_bytes: keep at most so much on a GPU, the rest in the CPU's memory; None: half of what is free there
            when the first features come.

    Attributes:
        scores: the `Scores` of the last ``compute``; they outlive ``reset``.

    Raises:
        InputError: whatever `Scorer` raises.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    kept: list[Tensor]
    numbers: list[Tensor]
    items_digest: Tensor

    def __init__(
        self,
        items: Items,
        task: Task,
        *,
        frequency: float | str | Decimal | Fraction,
        levels: Levels | None = None,
        weighted: bool = False,
        device_bytes: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**{name: options.pop(name) for name in OF_METRICS if name in options})
        self.scorer = Scorer(items, task, frequency=frequency, **options)
        self.levels, self.weighted = levels, weighted
        self.scores: Scores | None = None
        self._needed = NeededFrames(items, frequency)
        self._room = Room(device_bytes)
        self.add_state("kept", [], dist_reduce_fx=None)  # of each file, the frames
        # Of each update, (files, 2): which files they are, and their lengths.
        self.add_state("numbers", [], dist_reduce_fx=None)
        # A MetricCollection lets metrics share their states if these are equal after the first batch. Those of other
        # items could be, and differ later.
        digest = hashlib.sha256(repr([self.scorer.frequency, items.frame.rows()]).encode()).digest()
        self.add_state("items_digest", torch.tensor(list(digest)), dist_reduce_fx="max")

    def update(self, names: Sequence[str], features: Tensor, lengths: Tensor) -> None:
        """Keep the features of some files: ``features`` (B, F, D), of which ``lengths`` (B,) frames belong to each.

        Raises:
            InputError: the shapes do not fit each other, or the features are not floating point.
        """
        seen = set(torch.cat(self.numbers)[:, 0].tolist()) if self.numbers else set()
        kept = self._needed.take(names, features, lengths)
        fresh = {name: value for name, value in kept.items() if self._needed.number[name] not in seen}
        if fresh:
            self.kept.extend(self._room.place(frames) for _, frames in fresh.values())
            self.numbers.append(self._numbers(fresh))

    def compute(self) -> Tensor:
        """The error, a scalar.

        Raises:
            InputError: a file of the items was never seen; or the features do not fit the items, see `Scorer`.
        """
        shared = self._is_synced and torch.distributed.is_initialized()
        self.scores = self.scorer(self.features, DistributedRanks(self.process_group) if shared else None)
        return torch.tensor(self.scores.error(self.levels, self.weighted), device=self.device)

    @property
    def features(self) -> KeptFeatures:
        """What has come so far: a mapping from files to (frames, D) tensors."""
        kept: dict[str, Kept] = {}
        numbers = torch.cat(self.numbers).tolist() if self.numbers else []
        for (number, length), frames in zip(numbers, self.kept, strict=True):
            kept.setdefault(self._needed.files[number], Kept(length, frames))
        return KeptFeatures(self._needed, kept)

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Update."""
        self.update(*args, **kwargs)

    def reset(self) -> None:
        """Forget the features."""
        super().reset()
        self._room.clear()

    def sync(
        self,
        dist_sync_fn: Callable[..., list[Tensor]] | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Gather the features of all ranks, which torchmetrics' own way does not for a rank without any."""
        available = distributed_available or self.distributed_available_fn
        if self._is_synced and should_sync:
            raise TorchMetricsUserError("The Metric has already been synced.")
        if not should_sync or not available():
            return
        group = process_group or self.process_group
        sync_fn = dist_sync_fn
        gathered = exchange(
            self.features.kept,
            DistributedRanks(group).gather if sync_fn is None else lambda data: sync_fn(data, group=group),
        )
        # What is put back afterwards; no tensor of it is ever changed in place, so that none needs a copy.
        self._cache = {
            "kept": list(self.kept), "numbers": list(self.numbers), "items_digest": self.items_digest
        }  # fmt: skip
        self.kept = [frames for _, frames in gathered.values()]
        self.numbers = [self._numbers(gathered)] if gathered else []
        self._is_synced = True

    def _numbers(self, kept: Mapping[str, Kept]) -> Tensor:
        return torch.tensor([[self._needed.number[name], length] for name, (length, _) in kept.items()])
