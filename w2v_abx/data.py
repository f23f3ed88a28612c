"""The LightningDataModule: shards in, batches out, in an order that can be told in advance."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.errors import InputError
from w2v_abx.order import Order
from w2v_abx.shards import Manifest, Sample, Shard, read_shard

__all__ = ["Batch", "ShardDataModule", "Target"]

Batch = dict[str, Any]  # keys: list[str], waveforms (B, T) float32, lengths (B,) int64, targets: {name: (B, …)}


class Target(Protocol):
    """What makes a clip's labels a tensor: a head, usually."""

    def encode(self, labels: Mapping[str, Any]) -> Tensor: ...


class ShardDataset(IterableDataset[Batch]):
    """Batches of one rank; a worker makes every so-manyth of them."""

    def __init__(
        self,
        paths: Sequence[Path],
        order: Order,
        rank: int,
        crop_seconds: float | None,
        targets: Mapping[str, Target],
    ) -> None:
        self.paths, self.order, self.rank, self.targets = tuple(paths), order, rank, targets
        self.crop = None if crop_seconds is None else round(crop_seconds * SAMPLE_RATE)
        self.epoch = 0
        self.skip = 0  # batches of this epoch that are done

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        # The loader asks its first worker first, whichever stream the next batch comes from.
        stream = ((worker.id if worker else 0) + self.skip) % self.order.streams
        done = -(-(self.skip - stream) // self.order.streams) * self.order.local
        samples = self.order.mix(self._read(stream), self.epoch, self.rank, stream)
        batch: list[Sample] = []
        for number, sample in enumerate(samples):
            if number < done:
                continue
            batch.append(sample)
            if len(batch) == self.order.local:
                yield self._collate(batch)
                batch = []
        if batch:
            yield self._collate(batch)

    def _read(self, stream: int) -> Iterator[Sample]:
        for shard, first, last in self.order.stream(self.epoch, self.rank, stream):
            yield from read_shard(self.paths[shard], first, last)

    def _collate(self, samples: Sequence[Sample]) -> Batch:
        cuts = [self._cut(sample) for sample in samples]
        lengths = torch.tensor([len(waveform) for waveform, _ in cuts])
        waveforms = torch.zeros(len(cuts), int(lengths.max()))
        for row, (waveform, _) in zip(waveforms, cuts, strict=True):
            row[: len(waveform)] = torch.from_numpy(waveform)
        return {
            "keys": [sample.key for sample in samples],
            "waveforms": waveforms,
            "lengths": lengths,
            "targets": {
                name: torch.stack([target.encode(labels) for _, labels in cuts])
                for name, target in self.targets.items()
            },
        }

    def _cut(self, sample: Sample) -> tuple[np.ndarray, dict[str, Any]]:
        """A clip's crop, and its labels with times counted from the crop's start."""
        if self.crop is None or sample.length <= self.crop:
            return sample.decode(), sample.labels
        spare = sample.length - self.crop
        start = spare // 2
        if self.order.shuffle:
            text = f"{self.order.seed}/{self.epoch}/{sample.key}"
            seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
            start = int(np.random.default_rng(seed).integers(spare + 1))
        return sample.decode(start, self.crop), _labels_within(sample.labels, start, self.crop)


class EpochLoader(DataLoader[Batch]):
    """Knows the epoch, and goes on inside it where a checkpoint was written.

    Lightning keeps `state_dict` in its checkpoints. Batches that were fetched but not trained on are not counted.
    """

    dataset: ShardDataset

    def __init__(self, dataset: ShardDataset, trainer: lightning.Trainer | None, **settings: Any) -> None:
        super().__init__(dataset, batch_size=None, collate_fn=_as_is, **settings)
        self.trainer = trainer
        self.epoch, self.batches = 0, 0  # where a checkpoint left off

    def __len__(self) -> int:
        return self.dataset.order.share(self.dataset.rank).batches

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
        return {"epoch": epoch, "batches": batches, "order": self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        changed = [name for name, value in self._order().items() if state["order"].get(name) != value]
        if changed and state["batches"]:
            then, now = (
                ", ".join(f"{name}={order.get(name)}" for name in changed) for order in (state["order"], self._order())
            )
            raise InputError(
                f"the checkpoint stopped inside an epoch read with {then}, which {now} would read in another order: "
                f"resume with those settings"
            )
        self.epoch, self.batches = state["epoch"], state["batches"]

    def _order(self) -> dict[str, Any]:
        order = self.dataset.order
        return {
            "clips": sum(order.counts),
            "shards": len(order.counts),
            "batch_size": order.batch_size,
            "ranks": order.ranks,
            "num_workers": self.num_workers,
            "shuffle": order.shuffle,
            "seed": order.seed,
            "drop_last": order.drop_last,
        }


class ShardDataModule(lightning.LightningDataModule):
    """Batches from the shards of a prepared folder.

    A batch is a dict of ``keys`` (list), ``waveforms`` ``(B, T)`` float32 padded with zeros, ``lengths`` ``(B,)`` int64
    in samples at 16 kHz, and ``targets`` ``{name: (B, …)}``. The order of training is a function of ``seed``, the
    epoch, the rank, the worker and the position; validation and test read each clip once, in the shards' order.

    Args:
        folder: that `w2v_abx.shards.prepare` wrote.
        batch_size: clips in one step of all ranks together: the effective batch.
        crop_seconds: length of a random stretch of longer clips in training; ``None``: whole clips.
        eval_crop_seconds: length of the middle stretch of longer clips in validation and test; ``None``: whole clips.
        num_workers: processes that read and decode; 0: the training process does.
        shuffle: encoded clips that each worker mixes.
        drop_last: leave out an epoch's last clips when they fill no batch.
        max_clips: use only so many clips of each split (the first in the shards, whose order is by hash).
        seed: of order and crops.
        targets: what turns a clip's labels into tensors; may be set any time before training.

    Raises:
        InputError: settings out of range; here or when batches are made: a folder without manifest, a split without
            clips, a shard that is missing, of another size or damaged.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        batch_size: int = 16,
        crop_seconds: float | None = None,
        eval_crop_seconds: float | None = None,
        num_workers: int = 0,
        shuffle: int = 256,
        drop_last: bool = False,
        max_clips: int | None = None,
        seed: int = 0,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("crop_seconds", crop_seconds, 0.025),
            ("eval_crop_seconds", eval_crop_seconds, 0.025),
            ("num_workers", num_workers, 0),
            ("shuffle", shuffle, 1),
            ("max_clips", max_clips, 1),
            ("seed", seed, 0),
        ):
            if value is not None and (not math.isfinite(value) or value < least):
                raise InputError(f"data.{name}={value} must be {least} or more")
        self.manifest = Manifest.read(folder)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.crop_seconds, self.eval_crop_seconds = crop_seconds, eval_crop_seconds
        self.shuffle, self.drop_last, self.max_clips, self.seed = shuffle, drop_last, max_clips, seed
        self.targets: dict[str, Target] = dict(targets or {})

    def categories(self, field: str = "labels", split: str | None = "train") -> list[str]:
        """Every value that clips of the split (``None``: of any) carry in a label field, sorted."""
        return self.manifest.categories(field, split)

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("valid")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def _loader(self, split: str) -> DataLoader[Batch]:
        train = split == "train"
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        if self.batch_size % ranks:
            raise InputError(f"data.batch_size={self.batch_size} must be a multiple of the {ranks} processes")
        shards = self._shards(split)
        clips = sum(shard.clips for shard in shards)
        if train and self.drop_last and clips < self.batch_size:
            raise InputError(
                f"data.drop_last leaves nothing of the {clips} clips in {self.manifest.folder}, which fill no batch of "
                f"data.batch_size={self.batch_size}: lower it, or set data.drop_last=false"
            )
        order = Order(
            counts=tuple(shard.clips for shard in shards),
            batch_size=self.batch_size,
            ranks=ranks,
            streams=max(1, self.num_workers),
            shuffle=self.shuffle if train else 0,
            seed=self.seed,
            drop_last=train and self.drop_last,
            even=train,
        )
        paths = [self.manifest.folder / shard.name for shard in shards]
        crop = self.crop_seconds if train else self.eval_crop_seconds
        dataset = ShardDataset(paths, order, rank, crop, self.targets)
        settings: dict[str, Any] = {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}
        return EpochLoader(dataset, trainer if train else None, **settings)

    def _shards(self, split: str) -> list[Shard]:
        """The split's shards, checked, cut down to ``max_clips``."""
        shards: list[Shard] = []
        left = math.inf if self.max_clips is None else self.max_clips
        for shard in self.manifest.of(split):
            path = self.manifest.folder / shard.name
            size = path.stat().st_size if path.is_file() else None
            if size != shard.bytes:
                problem = "is missing" if size is None else f"has {size} bytes where the manifest says {shard.bytes}"
                raise InputError(f"the shard {path} {problem}: run `w2v-abx prepare` again")
            if left > 0:
                shards.append(replace(shard, clips=int(min(shard.clips, left))))
                left -= shard.clips
        return shards


def _labels_within(labels: Mapping[str, Any], start: int, length: int) -> dict[str, Any]:
    """Labels of a crop (in samples at 16 kHz): ``[onset s, offset s, symbol, …]`` lists are cut and moved."""
    begin, end = start / SAMPLE_RATE, (start + length) / SAMPLE_RATE

    def cut(value: Any) -> Any:
        timed = isinstance(value, list) and value and all(isinstance(part, list) and len(part) >= 3 for part in value)
        if not timed:
            return value
        inside = [(max(on, begin) - begin, min(off, end) - begin, rest) for on, off, *rest in value]
        return [[on, off, *rest] for on, off, rest in inside if on < off]

    return {field: cut(value) for field, value in labels.items()}


def _as_is(batch: Any) -> Any:
    return batch
