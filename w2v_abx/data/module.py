"""The LightningDataModule: prepared folders in, loaders out."""

import hashlib
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import lightning
import numpy as np
import torch

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.corpus import PreparedCorpus, read_manifest
from w2v_abx.data.dataset import Asked, Labelled, ShardDataset
from w2v_abx.data.loader import EpochLoader
from w2v_abx.data.mix import mix_settings
from w2v_abx.data.order import Mixed, Order, SecondsOrder, padding
from w2v_abx.data.order.balance import expected_counts
from w2v_abx.errors import InputError
from w2v_abx.items.frames import FrameClock
from w2v_abx.shards.cache import Cache
from w2v_abx.shards.places import Place

__all__ = ["ShardDataModule", "check_ranges"]

LEAST = {  # of whole numbers where it is written as one
    "batch_size": 1,
    "batch_seconds": 0.025,
    "like_length": 2,
    "crop_seconds": 0.025,
    "eval_crop_seconds": 0.025,
    "num_workers": 0,
    "shuffle": 1,
    "max_clips": 1,
    "balance_strength": 0.0,
    "cache_gigabytes": 0.0,
    "seed": 0,
}
OPTIONAL = ("batch_seconds", "like_length", "crop_seconds", "eval_crop_seconds", "max_clips")


def check_ranges(settings: Mapping[str, Any]) -> None:
    """Raise InputError for settings of `ShardDataModule` that are wrong whatever the clips are.

    What ``settings`` leave out has its default.
    """
    for name, least in LEAST.items():
        if name not in settings or (settings[name] is None and name in OPTIONAL):
            continue
        value = settings[name]
        kind, called = (int, "a whole number") if isinstance(least, int) else (int | float, "a number")
        if isinstance(value, bool) or not isinstance(value, kind):
            raise InputError(f"data.{name}={value} must be {called}")
        if not math.isfinite(value) or value < least:
            raise InputError(f"data.{name}={value} must be {least:g} or more")
    if (strength := settings.get("balance_strength", 1)) > 1:
        raise InputError(f"data.balance_strength={strength} must be 1 or less")
    if not 0 < (padding := settings.get("max_padding", 0.5)) < 1:
        raise InputError(f"data.max_padding={padding} must lie between 0 and 1")
    if settings.get("batch_seconds") is not None:
        for name in ("mix", "balance", "like_length", "drop_last"):
            if settings.get(name):
                raise InputError(f"data.batch_seconds does not go with data.{name}: set one of them only")


class Extractor(Protocol):
    """What makes frames of samples: an encoder."""

    frequency: float

    def frame_lengths(self, lengths: torch.Tensor) -> torch.Tensor:
        """Count the frames of clips of ``lengths`` samples."""


class ShardDataModule(lightning.LightningDataModule):
    """Batches from the shards of a prepared folder, or of several.

    A batch is a `w2v_abx.data.batch.Batch`; `ask` says which targets it holds. The order of training is a function of
    ``seed``, the epoch, the rank, the worker and the position (`w2v_abx.data.order`); validation and test read each
    clip of the main corpus once, in the shards' order.

    A clip without a head's label, and one of a corpus that is mixed in without ``targets: true``, has no target of it:
    ``present`` says so, and the values are NaN (-100 among integers), so that a loss that does not leave it out is not
    finite.

    Args:
        folder: that `w2v_abx.shards.prepare` wrote, or an address of a copy of it: see `w2v_abx.shards.places.Place`.
        batch_size: clips in one step of all ranks together: the effective batch.
        batch_seconds: in training, instead: seconds in one step of all ranks together, padding counted, of clips of
            like length; see `w2v_abx.data.order.SecondsOrder`.
        max_padding: with ``batch_seconds``: the largest share of a batch that may be padding.
        like_length: sort the clips of so many batches of a worker by length, so that those of a batch are alike.
        crop_seconds: length of a random stretch of longer clips in training; ``None``: whole clips.
        eval_crop_seconds: length of the middle stretch of longer clips in validation and test; ``None``: whole clips.
        num_workers: threads that read and decode ahead; 0: the training thread does.
        shuffle: encoded clips that each worker mixes.
        drop_last: leave out an epoch's last clips when they fill no batch.
        max_clips: use only so many clips of each split (the first in the shards, whose order is by hash).
        mix: corpora to mix into the training batches, by name: see `w2v_abx.data.mix.MixSetting`.
        balance: a label field; clips of its rare categories come more often: see `w2v_abx.data.order.balance`.
        balance_strength: from 0 (every clip as often) to 1 (every category as often).
        cache: a folder of this machine that keeps shards that came from an address.
        cache_gigabytes: how much it may hold.
        seed: of order and crops.
        should_stop: whether the run was asked to stop, so that clips that do not come are not waited for; may be set
            any time before training.

    Raises:
        InputError: settings out of range; here or when batches are made: a folder without manifest, a split without
            clips, a shard that is missing, of another size or damaged, an address that cannot be read.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        batch_size: int = 16,
        batch_seconds: float | None = None,
        max_padding: float = 0.1,
        like_length: int | None = None,
        crop_seconds: float | None = None,
        eval_crop_seconds: float | None = None,
        num_workers: int = 0,
        shuffle: int = 256,
        drop_last: bool = False,
        max_clips: int | None = None,
        mix: Mapping[str, Any] | None = None,
        balance: str | None = None,
        balance_strength: float = 1.0,
        cache: Path | str | None = None,
        cache_gigabytes: float = 100.0,
        seed: int = 0,
        should_stop: Callable[[], object] = bool,
    ) -> None:
        super().__init__()
        check_ranges(
            {
                "batch_size": batch_size,
                "batch_seconds": batch_seconds,
                "max_padding": max_padding,
                "like_length": like_length,
                "crop_seconds": crop_seconds,
                "eval_crop_seconds": eval_crop_seconds,
                "num_workers": num_workers,
                "shuffle": shuffle,
                "drop_last": drop_last,
                "max_clips": max_clips,
                "mix": mix,
                "balance": balance,
                "balance_strength": balance_strength,
                "cache_gigabytes": cache_gigabytes,
                "seed": seed,
            }
        )
        self.place = Place(str(folder))
        self.manifest = read_manifest(self.place)
        self.mix = mix_settings(mix, crop_seconds)
        if self.manifest.corpus in self.mix:
            raise InputError(f"data.mix.{self.manifest.corpus} has the name of the main corpus: choose another")
        self.mixed_places = {name: Place(setting.folder) for name, setting in self.mix.items()}
        self.mixed_manifests = {name: read_manifest(place) for name, place in self.mixed_places.items()}
        self.cache = None if cache is None else Cache(Path(cache), cache_gigabytes)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.batch_seconds, self.max_padding, self.like_length = batch_seconds, max_padding, like_length
        self.crop_seconds, self.eval_crop_seconds = crop_seconds, eval_crop_seconds
        self.shuffle, self.drop_last, self.max_clips, self.seed = shuffle, drop_last, max_clips, seed
        self.balance, self.balance_strength = balance, balance_strength
        self.asked = Asked()
        self.should_stop = should_stop

    def ask(self, heads: Mapping[str, Labelled], extractor: Extractor | None = None) -> None:
        """Make the targets of these heads, by name, part of each batch.

        ``extractor``: the encoder, whose frames targets may follow.
        """
        if extractor is None:
            self.asked = Asked(dict(heads))
            return
        clock = FrameClock(Fraction(extractor.frequency).limit_denominator(1_000_000))
        self.asked = Asked(dict(heads), lambda samples: int(extractor.frame_lengths(torch.tensor(samples))), clock)

    def categories(self, field: str = "labels", split: str | None = "train") -> list[str]:
        """Every value that clips of the split (``None``: of any) carry in a label field, sorted.

        Corpora that are mixed in count where their clips have targets.
        """
        folders = [(self.manifest, split)]
        for name, setting in self.mix.items():
            if setting.targets and (split in (None, setting.split) or split == "train"):
                folders.append((self.mixed_manifests[name], setting.split))
        found: set[str] = set()
        errors: list[InputError] = []
        for manifest, chosen in folders:
            try:
                found |= set(manifest.categories(field, chosen))
            except InputError as error:
                errors.append(error)
        if not found:
            raise errors[0]
        return sorted(found)

    def padding(self, epoch: int = 0) -> float:
        """The share of padding in the training batches of an epoch; no audio is read."""
        corpora, order = self._training(1)
        return padding(order, [corpus.lengths for corpus in corpora], epoch)

    def train_dataloader(self) -> EpochLoader:
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        corpora, order = self._training(ranks)
        return self._loader(
            ShardDataset(corpora, order, rank, self.asked, random=True, pinned=_on_gpu(trainer)), trainer
        )

    def val_dataloader(self) -> EpochLoader:
        return self._evaluation("valid")

    def test_dataloader(self) -> EpochLoader:
        return self._evaluation("test")

    def _training(self, ranks: int) -> tuple[list[PreparedCorpus], Order | SecondsOrder]:
        main = self._corpus("train", self.crop_seconds)
        streams = max(1, self.num_workers)
        if self.batch_seconds is not None:
            return [main], self._by_seconds(main, self.batch_seconds, ranks, streams)
        self._check_ranks(ranks)
        mixed = [
            PreparedCorpus.of(
                name,
                self.mixed_places[name],
                self.mixed_manifests[name],
                setting.split,
                _samples(setting.crop_seconds),
                self.cache,
                setting.targets,
            )
            for name, setting in self.mix.items()
        ]
        order = Order(
            counts=main.index.counts,
            batch_size=self.batch_size,
            ranks=ranks,
            streams=streams,
            shuffle=self.shuffle,
            seed=self.seed,
            drop_last=self.drop_last,
            even=True,
            mixed=tuple(
                Mixed(corpus.index.counts, setting.weight, corpus.lengths)
                for corpus, setting in zip(mixed, self.mix.values(), strict=True)
            ),
            expected=self._expected(main),
            lengths=main.lengths,
            window=self.like_length,
        )
        if not order.steps:
            raise InputError(
                f"data.drop_last leaves nothing of the {order.clips} clips in {self.place.name()}, which fill no batch "
                f"of data.batch_size={self.batch_size}: lower it, or set data.drop_last=false"
            )
        return [main, *mixed], order

    def _by_seconds(self, main: PreparedCorpus, seconds: float, ranks: int, streams: int) -> SecondsOrder:
        longest = int(main.lengths.max())
        budget = int(seconds * SAMPLE_RATE)
        if budget // ranks < longest:
            raise InputError(
                f"data.batch_seconds={seconds:g} does not hold a clip of {longest / SAMPLE_RATE:g} s for each of "
                f"{ranks} processes: raise it, or set data.crop_seconds"
            )
        return SecondsOrder(
            main.index.counts, main.lengths, budget, self.max_padding, ranks, streams, self.shuffle, self.seed
        )

    def _expected(self, main: PreparedCorpus) -> np.ndarray | None:
        if self.balance is None or not self.balance_strength:
            return None
        self.manifest.categories(self.balance, "train")  # raises where no clip carries the field
        numbers, carried = main.index.categories(self.balance)
        if not any(carried):
            raise InputError(
                f"data.balance={self.balance}: no clip carries it as a whole; labels with times, such as phones, "
                f"cannot be balanced: choose another label, or data.balance=null"
            )
        return expected_counts(numbers, carried, self.balance_strength)

    def _evaluation(self, split: str) -> EpochLoader:
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        self._check_ranks(ranks)
        corpus = self._corpus(split, self.eval_crop_seconds)
        if len(corpus.lengths) < ranks:
            raise InputError(
                f"the split {split!r} of {self.place.name()} has {len(corpus.lengths)} clips for {ranks} processes, "
                f"each of which needs one: set trainer.devices lower, or prepare more clips"
            )
        order = Order(corpus.index.counts, self.batch_size, ranks, max(1, self.num_workers), seed=self.seed)
        dataset = ShardDataset([corpus], order, rank, self.asked, random=False, pinned=_on_gpu(trainer))
        return self._loader(dataset, None)

    def _check_ranks(self, ranks: int) -> None:
        if self.batch_size % ranks:
            raise InputError(f"data.batch_size={self.batch_size} must be a multiple of the {ranks} processes")

    def _corpus(self, split: str, crop_seconds: float | None) -> PreparedCorpus:
        crop, name = _samples(crop_seconds), self.manifest.corpus
        return PreparedCorpus.of(name, self.place, self.manifest, split, crop, self.cache, max_clips=self.max_clips)

    def _loader(self, dataset: ShardDataset, trainer: lightning.Trainer | None) -> EpochLoader:
        order = dataset.order
        settings: dict[str, Any] = {
            "listing": self.manifest.listing,
            "content": _content(dataset.corpora[0]),
            "clips": len(dataset.corpora[0].lengths),
            "shards": len(order.counts),
            "batch_size": self.batch_size,
            "ranks": order.ranks,
            "num_workers": self.num_workers,
            "shuffle": order.shuffle,
            "seed": order.seed,
            "drop_last": self.drop_last,
            "batch_seconds": self.batch_seconds,
            "max_padding": None if self.batch_seconds is None else self.max_padding,
            "like_length": self.like_length,
            "crop_seconds": self.crop_seconds,
            "balance": self.balance,
            "balance_strength": self.balance_strength if self.balance else None,
            "mix": {
                corpus.name: [
                    self.mix[corpus.name].weight,
                    self.mix[corpus.name].crop_seconds,
                    len(corpus.lengths),
                    self.mix[corpus.name].split,
                    corpus.index.manifest.listing,
                    _content(corpus),
                ]
                for corpus in dataset.corpora[1:]
            },
        }
        return EpochLoader(dataset, trainer, settings, self.num_workers > 0, self.should_stop)


def _on_gpu(trainer: lightning.Trainer | None) -> bool:
    return trainer is not None and trainer.strategy.root_device.type == "cuda"


def _content(corpus: PreparedCorpus) -> str:
    """What the shards hold, in a few characters."""
    return hashlib.sha256("".join(shard.sha256 for shard in corpus.index.shards).encode()).hexdigest()[:16]


def _samples(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SAMPLE_RATE)
