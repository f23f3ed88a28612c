"""The LightningDataModule: prepared folders in, loaders out."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.corpus import Folder, PreparedCorpus, read_manifest
from w2v_abx.data.dataset import Asked, Labelled, ShardDataset, Stored
from w2v_abx.data.loader import EpochLoader
from w2v_abx.data.noise import Noise
from w2v_abx.data.order import HeldOutOrder, Order
from w2v_abx.data.ordering import training_order
from w2v_abx.data.settings import DataSettings
from w2v_abx.errors import InputError
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.extractor import Extractor
from w2v_abx.shards.cache import Cache
from w2v_abx.shards.places import Place

__all__ = ["LabelledClip", "ShardDataModule", "frames_of"]

ORDER_VERSION = 2  # raise it whenever the same settings give another order: tests/golden/order.json changes
# Settings that change neither the order of training clips nor what these hold, or stand otherwise in `_identity`.
OTHERWISE = ("eval_crop_seconds", "num_workers", "max_clips", "mix", "cache", "cache_gigabytes", "noise")


class LabelledClip(NamedTuple):
    """A clip without its audio: its labels, and its length in samples at 16 kHz."""

    key: str
    corpus: str
    labels: Mapping[str, Any]
    samples: int


def frames_of(extractor: Extractor) -> tuple[Callable[[int], int], FrameClock]:
    """Say how many frames a clip of so many samples has, and when they are."""
    clock = FrameClock(Fraction(extractor.frequency).limit_denominator(1_000_000))
    return lambda samples: int(extractor.frame_lengths(torch.tensor(samples))), clock


class ShardDataModule(lightning.LightningDataModule):
    """Batches from the shards of a prepared folder, or of several.

    A batch is a `w2v_abx.data.batch.Batch`; `ask` says which targets it holds. The order of training is a function of
    the seed, the epoch, the rank and the step (`w2v_abx.data.order`); validation and test read each clip once of every
    corpus that has the split, in the shards' order. (Not of one that is mixed in to be trained on in that very split.)

    A clip without a head's label, and one of a corpus that is mixed in without ``targets: true``, has no target of it:
    ``present`` says so, and the values are NaN (-100 among integers), so that a loss that does not leave it out is not
    finite.

    Args:
        folder: that `w2v_abx.shards.prepare` wrote, or an address of a copy of it: see `w2v_abx.shards.places.Place`.
        should_stop: whether the run was asked to stop, so that clips that do not come are not waited for; may be set
            any time before training.
        settings: see `w2v_abx.data.settings.DataSettings`.

    Raises:
        InputError: settings out of range; here or when batches are made: a folder without manifest, a split without
            clips, a shard that is missing, of another size or damaged, an address that cannot be read, groups of
            different sizes.
    """

    def __init__(self, folder: Path | str, *, should_stop: Callable[[], object] = bool, **settings: Any) -> None:
        super().__init__()
        self.settings = DataSettings(**settings)
        self.mix = self.settings.mix
        self.place = Place(str(folder))
        self.manifest = read_manifest(self.place)
        if self.manifest.corpus in self.mix:
            raise InputError(f"data.mix.{self.manifest.corpus} has the name of the main corpus: choose another")
        self.folders = {self.manifest.corpus: Folder(self.place, self.manifest, self.settings.crop_seconds)}
        for name, mixed in self.mix.items():
            place = Place(mixed.folder)
            self.folders[name] = Folder(
                place, read_manifest(place), mixed.crop_seconds, mixed.split, mixed.weight, mixed.targets
            )
        cache = self.settings.cache
        self.cache = None if cache is None else Cache(Path(cache), self.settings.cache_gigabytes)
        self.asked = Asked()
        self.stored: dict[str, Stored] = {}  # by split: features that its batches have instead of audio
        self.should_stop = should_stop

    def ask(self, heads: Mapping[str, Labelled], extractor: Extractor | None = None) -> None:
        """Make the targets of these heads, by name, part of each batch.

        ``extractor``: the encoder, whose frames targets may follow.
        """
        if extractor is None:
            self.asked = Asked(dict(heads))
            return
        self.asked = Asked(dict(heads), *frames_of(extractor))

    def counts(self, field: str = "labels", split: str | None = "train") -> Counter[str]:
        """Count the clips of the split (``None``: of any) that carry each value of a label.

        Corpora that are mixed in count where their clips have targets.

        Raises:
            InputError: no clip carries the label, or there is none of the split.
        """
        found: Counter[str] = Counter()
        errors: list[InputError] = []
        main, *mixed = self.folders.values()
        for folder in [main, *(other for other in mixed if other.labelled and (not split or other.split(split)))]:
            try:
                found.update(folder.manifest.counts(field, split and (folder.split(split) or split)))
            except InputError as error:
                errors.append(error)
        if not found:
            raise errors[0]
        return found

    def categories(self, field: str = "labels", split: str | None = "train") -> list[str]:
        """Find every value that clips of the split carry in a label, sorted: see `counts`."""
        return sorted(self.counts(field, split))

    def shared_speakers(self, split: str) -> list[str]:
        """Find the speakers of whom a corpus has clips in the split and clips to train on, sorted."""
        shared: set[str] = set()
        for folder in self.folders.values():
            if folder.labelled and (held_out := folder.split(split)):
                one, other = (
                    folder.manifest.labels.get(name, {}).get("speaker", {}) for name in (folder.train, held_out)
                )
                shared |= one.keys() & other.keys()
        return sorted(shared)

    def labels(self, split: str = "train") -> Iterator[LabelledClip]:
        """Read the labels of every clip of the split that has targets, in the shards' order; no audio is decoded.

        Raises:
            InputError: no corpus has the split, or a shard cannot be read.
        """
        for corpus in self._corpora(split):
            if corpus.labelled:
                for sample in corpus.read(np.arange(len(corpus.lengths))):
                    yield LabelledClip(sample.key, corpus.name, sample.labels, sample.length)

    def waveforms(
        self, split: str, wanted: Collection[tuple[str, str]], seconds: float
    ) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        """Decode, of the clips of a held-out split that are ``wanted`` by corpus and key, those of up to ``seconds``.

        Gives corpus and key, and float32 (T,) at 16 kHz, as heads are given it, with its noise. Clips that are cropped
        for them are left out.
        """
        noise = Noise.of(self.settings.noise, split, self.cache, self.settings.seed)
        longest = min(seconds, self.settings.eval_crop_seconds or seconds) * SAMPLE_RATE
        for corpus in self._corpora(split):
            numbers = corpus.index.find([key for name, key in wanted if name == corpus.name])
            for sample in corpus.read(numbers[corpus.index.samples[numbers] <= longest]):
                samples = sample.decode()
                if noise is not None:
                    noise.mix(samples, corpus.name, sample.key, 0)  # held-out clips come in epoch 0
                yield (corpus.name, sample.key), samples

    def has(self, split: str) -> bool:
        """Say whether any corpus has clips of the split."""
        return any(folder.split(split) for folder in self.folders.values())

    def train_dataloader(self) -> EpochLoader:
        corpora = self._corpora("train")
        rank, ranks = self._ranks()
        weights = [self.folders[corpus.name].weight for corpus in corpora]
        order = training_order(self.settings, corpora, weights, ranks)
        return self._loader(self._dataset("train", corpora, order, rank, self.settings.seed))

    def val_dataloader(self) -> EpochLoader:
        return self._held_out("valid")

    def test_dataloader(self) -> EpochLoader:
        return self._held_out("test")

    def _held_out(self, split: str) -> EpochLoader:
        rank, ranks = self._ranks()
        corpora = self._corpora(split)
        total = sum(len(corpus.units) for corpus in corpora)
        if total < ranks:
            raise InputError(
                f"the split {split!r} of {', '.join(str(corpus.index.place) for corpus in corpora)} has {total} clips "
                f"or groups for {ranks} processes, each of which needs one: set trainer.devices lower, or prepare more"
            )
        clips = corpora[0].units.shape[1]
        size = ranks * max(1, self.settings.batch_size // (ranks * clips))
        order = HeldOutOrder(tuple(corpus.source([0]) for corpus in corpora), size, ranks)
        return self._loader(self._dataset(split, corpora, order, rank, None))

    def _corpora(self, split: str) -> list[PreparedCorpus]:
        """Open the split of every corpus that has it."""
        chosen, training = self.settings, split == "train"
        folders = {name: folder for name, folder in self.folders.items() if folder.split(split)}
        if not folders:
            self.manifest.of(split)  # raises
        corpora = []
        for number, (name, folder) in enumerate(folders.items()):
            seconds = folder.crop_seconds if training else chosen.eval_crop_seconds
            corpus = PreparedCorpus.of(
                name,
                folder.place,
                folder.manifest,
                folder.split(split) or split,
                None if training and number else chosen.max_clips,
                crop=None if seconds is None else round(seconds * SAMPLE_RATE),
                cache=self.cache,
                labelled=folder.labelled,
                group=chosen.group,
            )
            corpora.append(corpus)
            if (clips := corpus.units.shape[1]) != (others := corpora[0].units.shape[1]):
                raise InputError(
                    f"data.group={chosen.group}: groups of {folder.place} have {clips} clips where those of "
                    f"{corpora[0].index.place} have {others}: mix corpora with groups of one size"
                )
        return corpora

    def _ranks(self) -> tuple[int, int]:
        """Return this rank and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _dataset(
        self, split: str, corpora: list[PreparedCorpus], order: Order, rank: int, crop_seed: int | None
    ) -> ShardDataset:
        noise = Noise.of(self.settings.noise, split, self.cache, self.settings.seed)
        stored = lambda: self.stored.get(split)  # noqa: E731
        return ShardDataset(corpora, order, rank, self.asked, crop_seed, self._on_gpu(), noise, stored)

    def _loader(self, dataset: ShardDataset) -> EpochLoader:
        training = dataset.crop_seed is not None
        return EpochLoader(
            dataset,
            self.trainer if training else None,
            self._identity(dataset) if training else {},
            self.settings.num_workers,
            self.should_stop,
        )

    def _identity(self, dataset: ShardDataset) -> dict[str, Any]:
        """Collect what the order of the training clips, and what they hold, depend on."""
        chosen = {name: value for name, value in asdict(self.settings).items() if name not in OTHERWISE}
        chosen["max_padding" if self.settings.batch_seconds is None else "batch_size"] = None
        if self.settings.balance is None:
            chosen["balance_strength"] = None
        main, *mixed = dataset.corpora
        return chosen | {
            "order_version": ORDER_VERSION,
            "listing": self.manifest.listing,
            "content": main.content,
            "clips": len(main.lengths),
            "noise": dataset.noise and dataset.noise.identity,
            "ranks": dataset.order.ranks,
            "mix": {
                corpus.name: [
                    self.mix[corpus.name].weight,
                    self.mix[corpus.name].crop_seconds,
                    len(corpus.lengths),
                    self.mix[corpus.name].split,
                    self.mix[corpus.name].targets,
                    corpus.index.manifest.listing,
                    corpus.content,
                ]
                for corpus in mixed
            },
        }
