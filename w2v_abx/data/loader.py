"""The loader that knows the epoch, and goes on inside it where a checkpoint was written."""

from collections.abc import Iterator, Mapping
from typing import Any

import lightning
from torch.utils.data import DataLoader

from w2v_abx.data.dataset import Batch, ShardDataset
from w2v_abx.errors import InputError

__all__ = ["EpochLoader"]


class EpochLoader(DataLoader[Batch]):
    """Knows the epoch, and goes on inside it where a checkpoint was written.

    Lightning keeps `state_dict` in its checkpoints. Batches that were fetched but not trained on are not counted.
    ``settings`` are those of the data module on which the order depends.
    """

    dataset: ShardDataset

    def __init__(
        self, dataset: ShardDataset, trainer: lightning.Trainer | None, settings: Mapping[str, Any], **options: Any
    ) -> None:
        super().__init__(dataset, batch_size=None, collate_fn=_as_is, **options)
        self.trainer = trainer
        self.settings = dict(settings)
        self.epoch, self.batches = 0, 0  # where a checkpoint left off

    def __len__(self) -> int:
        return self.dataset.order.batches(self.dataset.rank)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # Lightning asks for the first batches before it has put its own count right.
        epoch = max(self.trainer.current_epoch if self.trainer else 0, self.epoch)
        self.dataset.epoch = epoch
        self.dataset.skip = self.batches if epoch == self.epoch else 0
        try:
            yield from super().__iter__()
        except InputError as error:  # a worker's comes with its traceback
            raise InputError(str(error).rsplit("InputError: ", 1)[-1].strip()) from None

    def state_dict(self) -> dict[str, Any]:
        done, per_epoch = 0, len(self)
        if self.trainer:
            done = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
            per_epoch = int(min(per_epoch, self.trainer.num_training_batches))
        epoch, batches = divmod(done, per_epoch)
        return {"epoch": epoch, "batches": batches, "order": self.settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        changed = [name for name, value in self.settings.items() if state["order"].get(name) != value]
        if changed and state["batches"]:
            then, now = (
                ", ".join(f"{name}={order.get(name)}" for name in changed) for order in (state["order"], self.settings)
            )
            raise InputError(
                f"the checkpoint stopped inside an epoch read with {then}, which {now} would read in another order: "
                f"resume with those settings"
            )
        self.epoch, self.batches = state["epoch"], state["batches"]


def _as_is(batch: Any) -> Any:
    return batch
