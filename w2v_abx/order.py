"""Which clip comes when in an epoch, for every rank and worker: numbers alone, no audio."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

__all__ = ["Order", "Share"]

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """One rank's part of an epoch: ``clips`` from position ``start`` of the epoch's order, as ``batches`` batches."""

    start: int
    clips: int
    batches: int


@dataclass(frozen=True)
class Order:
    """Which clip comes when: a function of these numbers, the epoch, the rank and the stream (one for each worker).

    The epoch's order is that of the shards, shuffled and turned by a random offset when ``shuffle`` is above 0. Ranks
    take consecutive parts of it, and their streams consecutive parts of those, in whole batches; each stream mixes its
    clips in a buffer of ``shuffle``. Batch k of a rank comes from its stream k mod ``streams``.
    """

    counts: tuple[int, ...]  # clips in each shard
    batch_size: int  # of all ranks together
    ranks: int = 1
    streams: int = 1
    shuffle: int = 0
    seed: int = 0
    drop_last: bool = False
    even: bool = False  # every rank has as many batches as the others, for which one may see a clip twice

    @property
    def local(self) -> int:
        """Clips in one rank's batch."""
        return self.batch_size // self.ranks

    def share(self, rank: int) -> Share:
        total = sum(self.counts)
        batches = total // self.batch_size if self.drop_last else -(-total // self.batch_size)
        rest = self.batch_size if self.drop_last else total - (batches - 1) * self.batch_size
        low, extra = divmod(rest, self.ranks)
        full = (batches - 1) * self.local
        start = rank * (full + low) + min(rank, extra)
        clips = full + low + (rank < extra)
        if self.even and clips == full:
            clips += 1
        return Share(start, clips, -(-clips // self.local))

    def stream(self, epoch: int, rank: int, stream: int) -> Iterator[tuple[int, int, int]]:
        """The stretches (shard, first, last) that one stream reads, in reading order."""
        share = self.share(rank)
        low, extra = divmod(share.batches, self.streams)
        before = (stream * low + min(stream, extra)) * self.local
        clips = min((low + (stream < extra)) * self.local, share.clips - before)
        shards, offset = np.arange(len(self.counts)), 0
        if self.shuffle:
            generator = np.random.default_rng([self.seed, epoch])
            shards, offset = generator.permutation(shards), int(generator.integers(sum(self.counts)))
        position = (share.start + before + offset) % sum(self.counts)
        index = 0
        while position >= self.counts[shards[index]]:
            position -= self.counts[shards[index]]
            index += 1
        while clips > 0:
            shard = int(shards[index])
            taken = min(self.counts[shard] - position, clips)
            yield shard, position, position + taken
            clips, position, index = clips - taken, 0, (index + 1) % len(shards)

    def mix(self, samples: Iterable[T], epoch: int, rank: int, stream: int) -> Iterator[T]:
        """The stream's samples as its buffer gives them out."""
        if not self.shuffle:
            yield from samples
            return
        generator = np.random.default_rng([self.seed, epoch, rank, stream])
        buffer: list[T] = []
        for sample in samples:
            if len(buffer) < self.shuffle:
                buffer.append(sample)
                continue
            place = int(generator.integers(len(buffer)))
            yield buffer[place]
            buffer[place] = sample
        for place in generator.permutation(len(buffer)):
            yield buffer[place]
