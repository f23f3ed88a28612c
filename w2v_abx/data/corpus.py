"""One prepared corpus as training reads it: its shards and index, and its clips in a given order."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from w2v_abx.data.order import Stretch
from w2v_abx.errors import InputError
from w2v_abx.shards import Manifest, Sample, Shard
from w2v_abx.shards.cache import Cache
from w2v_abx.shards.index import Index
from w2v_abx.shards.manifest import NAME
from w2v_abx.shards.places import FileReader, Place, Reader
from w2v_abx.shards.reading import check_tail, read_clip

__all__ = ["Pool", "PreparedCorpus", "read_manifest"]


def read_manifest(place: Place) -> Manifest:
    """The manifest of a prepared folder, here or behind an address; `InputError` where none can be read."""
    if place.folder is not None:
        return Manifest.read(place.folder)
    return Manifest.parse(place.read(NAME), Path(place.name()), place.name(NAME), "try again, or copy the folder anew")


@dataclass(frozen=True)
class PreparedCorpus:
    """Some clips of a prepared folder: the index of one split's shards.

    ``crop`` is the length in samples of a stretch of longer clips (``None``: whole clips). ``labelled``: its labels
    become targets.
    """

    name: str
    index: Index
    crop: int | None = None
    cache: Cache | None = None
    labelled: bool = True
    _checked: set[int] = field(default_factory=set, compare=False)

    @classmethod
    def of(
        cls,
        name: str,
        place: Place,
        manifest: Manifest,
        split: str,
        crop: int | None = None,
        cache: Cache | None = None,
        labelled: bool = True,
        max_clips: int | None = None,
    ) -> "PreparedCorpus":
        """A split of a folder, its shards checked, cut down to its first ``max_clips``."""
        shards: list[Shard] = []
        left = math.inf if max_clips is None else max_clips
        for shard in manifest.of(split):
            _check(place, shard)
            if left > 0:
                shards.append(replace(shard, clips=int(min(shard.clips, left))))
                left -= shard.clips
        return cls(name, Index.read(place, manifest, shards), crop, cache, labelled)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Samples of each clip as it is given out, (N,)."""
        return self.index.samples if self.crop is None else np.minimum(self.index.samples, self.crop)

    def open(self, shard: Shard) -> Reader:
        if self.cache is not None and self.index.place.folder is None:
            return self.cache.open(self.index.place, shard)
        return self.index.place.open(shard.name, shard.bytes)

    def read(self, stretch: Stretch, wanted: np.ndarray) -> Iterator[tuple[int, Sample]]:
        """The clips of a stretch at the places where ``wanted`` (one for each) is true, with their places."""
        places = np.flatnonzero(wanted)
        if not len(places):
            return
        shard = self.index.shards[stretch.shard]
        name = self.index.place.name(shard.name)
        reader = self.open(shard)
        try:
            if isinstance(reader, FileReader):
                self._check_tail(name, reader, stretch.shard)
            number, sample = -1, None
            for place in places.tolist():
                if sample is None or number != stretch.numbers[place]:
                    number = int(stretch.numbers[place])
                    start, end = self.index.span(stretch.shard, number)
                    sample = read_clip(name, reader.read(start, end - start))
                    if sample.length != (
                        promised := int(self.index.samples[self.index.firsts[stretch.shard] + number])
                    ):
                        raise InputError(
                            f"{name}: {sample.key} has {sample.length} samples where the index says {promised}: "
                            f"run `w2v-abx prepare` again"
                        )
                    if end == self.index.tails[stretch.shard]:  # from afar, it is next
                        self._check_tail(name, reader, stretch.shard)
                yield place, sample
        finally:
            reader.close()

    def _check_tail(self, name: str, reader: Reader, shard: int) -> None:
        """Nothing lies behind a shard's last clip, where no clip is read; looked at once."""
        if shard not in self._checked:
            check_tail(name, reader, self.index.tails[shard], self.index.shards[shard].bytes)
            self._checked.add(shard)


class Pool:
    """The clips of one corpus on their way from reading to batches: held from when they are read until they are due.

    ``given`` are tickets (places in the reading, which ``stretches`` make up) in the order in which they are due; what
    only the first ``done`` of them would need is not read.
    """

    def __init__(self, corpus: PreparedCorpus, stretches: Sequence[Stretch], given: np.ndarray, done: int) -> None:
        self.corpus, self.given, self.due = corpus, given, done
        self._wanted = np.zeros(len(given), dtype=bool)
        self._wanted[given[done:]] = True
        self._held: dict[int, tuple[Sample, Stretch, int]] = {}
        self._reading = self._read(stretches)

    def take(self, count: int) -> Iterator[tuple[Sample, Stretch, int]]:
        """The next clips, each with its stretch and its place there."""
        for ticket in self.given[self.due : self.due + count].tolist():
            while ticket not in self._held:
                read, entry = next(self._reading)
                self._held[read] = entry
            yield self._held.pop(ticket)
        self.due += count

    def _read(self, stretches: Sequence[Stretch]) -> Iterator[tuple[int, tuple[Sample, Stretch, int]]]:
        first = 0
        for stretch in stretches:
            for place, sample in self.corpus.read(stretch, self._wanted[first : first + len(stretch)]):
                yield first + place, (sample, stretch, place)
            first += len(stretch)


def _check(place: Place, shard: Shard) -> None:
    """A shard on this machine has the size that the manifest says; others are found out when they are read."""
    place.plain(shard.name)
    if place.folder is None:
        return
    path = Path(place.folder) / shard.name
    size = path.stat().st_size if path.is_file() else None
    if size != shard.bytes:
        problem = "is missing" if size is None else f"has {size} bytes where the manifest says {shard.bytes}"
        raise InputError(f"the shard {path} {problem}: run `w2v-abx prepare` again")
