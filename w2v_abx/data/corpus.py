"""One prepared corpus as training reads it: its clips, by number, and which of them belong together."""

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from w2v_abx.data.order import Source
from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, Sample, Shard
from w2v_abx.shards.cache import Cache
from w2v_abx.shards.index import Index
from w2v_abx.shards.manifest import NAME
from w2v_abx.shards.places import FileReader, Place, Reader
from w2v_abx.shards.reading import check_tail, read_clip

__all__ = ["Folder", "PreparedCorpus", "read_manifest"]


def read_manifest(place: Place) -> Manifest:
    """Read the manifest of a prepared folder, here or behind an address; `InputError` where there is none."""
    if place.folder is not None:
        return Manifest.read(place.folder)
    return Manifest.parse(place.read(NAME), Path(place.name()), place.name(NAME), "try again, or copy the folder anew")


class Folder(NamedTuple):
    """A prepared folder: which of its splits is trained on, in which share, and whether its labels become targets."""

    place: Place
    manifest: Manifest
    crop_seconds: float | None
    train: str = "train"
    weight: float = 0.0
    labelled: bool = True

    def split(self, name: str) -> str | None:
        """Name the split of the folder that is the ``name`` of the run; None: it has none."""
        if name == "train":
            return self.train
        return name if name in self.manifest.splits and name != self.train else None


@dataclass(frozen=True)
class PreparedCorpus:
    """Some clips of a prepared folder: the index of one split's shards.

    ``crop`` is the length in samples of a span of longer clips (``None``: whole clips). ``labelled``: its labels become
    targets. ``group``: the label whose value clips share that are to share a batch.
    ``cut``: these are not all of the split.
    """

    name: str
    index: Index
    crop: int | None = None
    cache: Cache | None = None
    labelled: bool = True
    group: str | None = None
    cut: bool = False
    _checked: set[int] = field(default_factory=set, compare=False)

    @classmethod
    def of(
        cls, name: str, place: Place, manifest: Manifest, split: str, max_clips: int | None, **options: Any
    ) -> "PreparedCorpus":
        """Open a split of a folder, its shards checked, cut down to its first ``max_clips``."""
        shards: list[Shard] = []
        left = math.inf if max_clips is None else max_clips
        for shard in manifest.of(split):
            _check(place, shard)
            if left > 0:
                shards.append(replace(shard, clips=int(min(shard.clips, left))))
                left -= shard.clips
        return cls(
            name,
            Index.read(place, manifest, shards),
            cut=sum(shard.clips for shard in manifest.of(split)) > sum(shard.clips for shard in shards),
            **options,
        )

    @cached_property
    def lengths(self) -> np.ndarray:
        """Samples of each clip as it is given out, (N,)."""
        return self.index.samples if self.crop is None else np.minimum(self.index.samples, self.crop)

    @cached_property
    def units(self) -> np.ndarray:
        """The clips of each unit, (U, clips), in the order of the shards: one each, or those of a group.

        Raises:
            InputError: groups of different numbers of clips, or of one.
        """
        if self.group is None:
            return np.arange(len(self.lengths))[:, None]
        self.index.manifest.categories(self.group)  # raises where no clip carries it
        numbers, carried = self.index.categories(self.group)
        alone = np.array([not values for values in carried])[numbers]
        _, of, sizes = np.unique(
            np.where(alone, -1 - np.arange(len(numbers)), numbers), return_inverse=True, return_counts=True
        )
        shared, groups = np.unique(sizes[sizes > 1], return_counts=True)
        if not shared.size:
            raise InputError(
                f"data.group={self.group}: no two clips in {self.index.place} share a value of this label: choose "
                f"another, or data.group=null"
            )
        size = int(shared[groups == groups.max()].max())  # that most have
        if (others := np.flatnonzero(sizes[of] != size)).size:
            clip = int(others[0])
            found = f"that share {', '.join(carried[numbers[clip]])!r}" if not alone[clip] else "without it"
            raise InputError(
                f"data.group={self.group}: {self.index.place} has a group of {sizes[of[clip]]}, clips {found}, "
                f"where others are of {size}: give all groups as many clips"
                + (" (data.max_clips has cut one)" if self.cut else "")
            )
        units = np.argsort(of, kind="stable").reshape(-1, size)
        if self.index.place.folder is None and self.cache is None and (np.diff(units) > 1).any():
            warnings.warn(
                f"clips that share data.group={self.group} lie apart in {self.index.place}, which is read again for "
                f"each: prepare them with prepare.group={self.group}, or set data.cache",
                stacklevel=2,
            )
        return units[np.argsort(units[:, 0])]

    def source(self, seed: Sequence[int], weight: float = 0.0, expected: np.ndarray | None = None) -> Source:
        """Describe the corpus to an order; ``expected`` (N,): how often each clip is to come in an epoch."""
        shards = np.searchsorted(self.index.firsts, self.units[:, 0], side="right") - 1
        return Source(
            tuple(np.bincount(shards, minlength=len(self.index.shards)).tolist()),
            self.lengths[self.units].max(1),
            tuple(seed),
            weight,
            None if expected is None else expected[self.units].mean(1),
        )

    @property
    def content(self) -> str:
        """What the shards hold, in a few characters."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.index.shards).encode()).hexdigest()[:16]

    def open(self, shard: Shard) -> Reader:
        if self.cache is not None and self.index.place.folder is None:
            return self.cache.open(self.index.place, shard)
        return self.index.place.open(shard.name, shard.bytes)

    def read(self, clips: np.ndarray) -> Iterator[Sample]:
        """Read clips, by number; a shard stays open for those that follow one another in it."""
        shards = np.searchsorted(self.index.firsts, clips, side="right") - 1
        for run in np.split(np.arange(len(clips)), np.flatnonzero(np.diff(shards)) + 1):
            if len(run):
                yield from self._read(int(shards[run[0]]), clips[run])

    def _read(self, shard: int, clips: np.ndarray) -> Iterator[Sample]:
        name = self.index.place.name(self.index.shards[shard].name)
        reader = self.open(self.index.shards[shard])
        try:
            if isinstance(reader, FileReader):
                self._check_tail(name, reader, shard)
            for clip in clips.tolist():
                start, end = self.index.span(shard, clip - int(self.index.firsts[shard]))
                sample = read_clip(name, reader.read(start, end - start))
                if sample.length != (promised := int(self.index.samples[clip])):
                    raise InputError(
                        f"{name}: {sample.key} has {sample.length} samples where the index says {promised}: "
                        f"run `w2v-abx prepare` again"
                    )
                if end == self.index.tails[shard]:  # from afar, it is next
                    self._check_tail(name, reader, shard)
                yield sample
        finally:
            reader.close()

    def _check_tail(self, name: str, reader: Reader, shard: int) -> None:
        """Check once that nothing lies behind a shard's last clip, where no clip is read."""
        if shard not in self._checked:
            check_tail(name, reader, self.index.tails[shard], self.index.shards[shard].bytes)
            self._checked.add(shard)


def _check(place: Place, shard: Shard) -> None:
    """Check the size of a shard on this machine; others are found out when they are read."""
    if place.folder is None:
        return
    path = Path(place.folder) / shard.name
    size = path.stat().st_size if path.is_file() else None
    if size != shard.bytes:
        problem = "is missing" if size is None else f"has {size} bytes where the manifest says {shard.bytes}"
        raise InputError(f"the shard {path} {problem}: run `w2v-abx prepare` again")
