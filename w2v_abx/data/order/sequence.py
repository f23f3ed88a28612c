"""The order in which the clips of one corpus are read, epoch after epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from w2v_abx.data.order.balance import draw

__all__ = ["Sequence", "Stretch"]


@dataclass(frozen=True)
class Stretch:
    """Clips that are read one after another: their ``numbers`` in the ``shard``, ascending.

    ``epoch`` is the corpus's own, ``turns`` says how many times each clip came before in it (``None``: never).
    """

    shard: int
    numbers: np.ndarray
    epoch: int
    turns: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class _Epoch:
    """The shards in the order of reading, how many clips are read of each, and the position where the epoch begins."""

    shards: np.ndarray
    tops: np.ndarray  # sums of the counts up to and with each
    offset: int
    clips: np.ndarray | None = None  # number in its shard of each clip drawn, and its turn
    turns: np.ndarray | None = None
    firsts: np.ndarray | None = None  # where each shard's begin in them


class Sequence:
    """One corpus, read again and again: each epoch has as many clips as the corpus.

    The epoch's order is that of the shards, shuffled and turned by a random offset when ``shuffle``: neighbouring
    stretches go to different readers, and shuffling inside a stretch is theirs. With ``expected`` (N,), how often each
    clip is to come in an epoch (of sum N), an epoch is several passes over the shards: see
    `w2v_abx.data.order.balance`.
    """

    def __init__(self, counts: tuple[int, ...], shuffle: bool, seed: int, expected: np.ndarray | None = None) -> None:
        self.counts, self.shuffle, self.seed, self.expected = counts, shuffle, seed, expected
        self.clips = sum(counts)
        self._kept: tuple[int, _Epoch] | None = None

    def stretches(self, epoch: int, start: int, stop: int) -> Iterator[Stretch]:
        """The clips at positions ``start`` to ``stop`` of an epoch; after its last comes its first again."""
        order = self._epoch(epoch)
        position = (start + order.offset) % self.clips
        index = int(np.searchsorted(order.tops, position, side="right"))
        left = stop - start
        while left > 0:
            before = int(order.tops[index - 1]) if index else 0
            first = position - before
            taken = min(int(order.tops[index]) - position, left)
            if taken:
                yield self._stretch(order, epoch, index, first, first + taken)
            left -= taken
            index = (index + 1) % len(order.shards)
            position = int(order.tops[index - 1]) if index else 0

    def endless(self, start: int, stop: int) -> Iterator[Stretch]:
        """The clips at positions ``start`` to ``stop`` of all epochs, one behind the other."""
        while start < stop:
            epoch, position = divmod(start, self.clips)
            taken = min(self.clips - position, stop - start)
            yield from self.stretches(epoch, position, position + taken)
            start += taken

    def _stretch(self, order: _Epoch, epoch: int, index: int, first: int, last: int) -> Stretch:
        shard = int(order.shards[index])
        if order.clips is None or order.firsts is None or order.turns is None:
            return Stretch(shard, np.arange(first, last), epoch)
        part = slice(int(order.firsts[index]) + first, int(order.firsts[index]) + last)
        return Stretch(shard, order.clips[part], epoch, order.turns[part])

    def _epoch(self, epoch: int) -> _Epoch:
        if self._kept is None or self._kept[0] != epoch:
            self._kept = epoch, self._ordered(epoch)
        return self._kept[1]

    def _ordered(self, epoch: int) -> _Epoch:
        shards, offset = np.arange(len(self.counts)), 0
        generator = np.random.default_rng([self.seed, epoch])
        if self.expected is None:
            if self.shuffle:
                shards, offset = generator.permutation(shards), int(generator.integers(self.clips))
            return _Epoch(shards, np.cumsum(np.array(self.counts)[shards]), offset)
        drawn = draw(self.expected, epoch, self.seed)
        bounds = np.concatenate([[0], np.cumsum(self.counts)])
        visits, firsts, sizes = [], [], []
        for first, last in zip(drawn.passes, drawn.passes[1:], strict=False):
            cuts = first + np.searchsorted(drawn.clips[first:last], bounds)
            order = generator.permutation(shards)
            visits.append(order)
            firsts.append(cuts[order])
            sizes.append(np.diff(cuts)[order])
        of = np.searchsorted(bounds, drawn.clips, side="right") - 1
        return _Epoch(
            np.concatenate(visits),
            np.cumsum(np.concatenate(sizes)),
            int(generator.integers(self.clips)),
            drawn.clips - bounds[of],
            drawn.turns,
            np.concatenate(firsts),
        )
