"""Iterate over the batches of one rank, and resume inside an epoch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import lightning

from w2v_abx.data.batch import Batch
from w2v_abx.data.dataset import ShardDataset
from w2v_abx.distributed.collectives import world_size
from w2v_abx.errors import InputError
from w2v_abx.system.machine import keep_freed_memory
from w2v_abx.system.prefetch import in_order

__all__ = ["EpochLoader"]


class EpochLoader:
    """Iterates over the batches of one rank; resumes inside an epoch where a checkpoint was written.

    So many ``threads`` decode ahead, of which one at a time reads: reading, decoding and scaling let go of Python's
    lock, and a batch is trained on where it was made. Worker processes, which PyTorch's `DataLoader` would start, hand
    theirs over in shared memory, and that costs more than making it: see ``benchmarks/data.py``. The number of threads
    changes nothing in the batches.

    Lightning keeps `state_dict` in its checkpoints. Batches that were fetched but not trained on are not counted;
    without a trainer, those count that were given out, and each iteration reads ``epoch`` from ``batches`` on.
    ``settings`` are those of the data module on which the order depends.

    With ``threads``, InputError is raised where ``should_stop`` comes to say so while clips are waited for. (Not where
    several processes train together: those that have theirs would wait for this one.)
    """

    def __init__(
        self,
        dataset: ShardDataset,
        trainer: lightning.Trainer | None,
        settings: Mapping[str, Any],
        threads: int,
        should_stop: Callable[[], object],
    ) -> None:
        self.dataset, self.trainer, self.threads = dataset, trainer, threads
        self.settings, self.should_stop = dict(settings), should_stop
        self.epoch, self.batches = 0, 0  # where a checkpoint left off
        self._began: tuple[int, int, int] | None = None  # epoch, batches that were skipped, batches counted till then
        self._given = 0

    def __len__(self) -> int:
        return self.dataset.order.steps

    def __iter__(self) -> Iterator[Batch]:
        # Lightning asks for the first batches before it has put its own count right.
        epoch = max(self.trainer.current_epoch if self.trainer else 0, self.epoch)
        skip = self.batches if epoch == self.epoch else 0
        self._began = epoch, skip, self._counted
        keep_freed_memory()
        clips = self.dataset.encoded(epoch, skip)
        with closing(in_order(clips, self.dataset.decoded, self.threads, "clips", self._check_stop)) as batches:
            for batch in batches:
                self._given += 1
                yield batch

    def _check_stop(self) -> None:
        if world_size() == 1 and self.should_stop():
            raise InputError("clips were waited for and had not come")

    @property
    def _counted(self) -> int:
        """Batches that were trained on in all."""
        if self.trainer is None:
            return self._given
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.total.processed)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        epoch, batches = self.epoch, self.batches
        if self._began is not None:
            # Not Lightning's count of this epoch: where its checkpoint was written decides when that begins anew.
            epoch, skipped, before = self._began
            batches = skipped + self._counted - before
        if batches >= (min(len(self), self.trainer.num_training_batches) if self.trainer else len(self)):
            epoch, batches = epoch + 1, 0
        return {"epoch": epoch, "batches": batches, "order": self.settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        then = state["order"]
        changed = [name for name in {**self.settings, **then} if then.get(name) != self.settings.get(name)]
        if "order_version" in changed and state["batches"]:
            raise InputError(
                "the checkpoint stopped inside an epoch that was read by another version of w2v-abx, in another order: "
                "resume with that version, or from a checkpoint of an epoch's end"
            )
        if changed and state["batches"]:
            then, now = (
                ", ".join(f"{name}={order.get(name)}" for name in changed) for order in (state["order"], self.settings)
            )
            raise InputError(
                f"the checkpoint stopped inside an epoch read with {then}, which {now} would read in another order: "
                f"resume with those settings"
            )
        self.epoch, self.batches = state["epoch"], state["batches"]
        if self.trainer and not self.batches:
            self._begin_epoch(self.trainer.fit_loop)

    def _begin_epoch(self, loop: Any) -> None:
        """Have Lightning begin the epoch at its beginning, even if it has more batches now than the one before had.

        A checkpoint of an epoch's last step or of the validation after it says that the epoch still goes on.
        """
        for count in (loop.epoch_progress.total, loop.epoch_progress.current):
            count.ready = count.started = count.processed = count.completed = self.epoch
        progress = loop.epoch_loop.batch_progress
        progress.reset_on_run()
        progress.current.completed = progress.total.completed - progress.total.processed  # it will count a last step
