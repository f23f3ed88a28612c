"""Order one corpus for reading: shard by shard, epoch after epoch.

Orders count in *units*: a unit is one clip, or, where clips are to share a batch, all clips of one group.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from w2v_abx.data.order.balance import draw

__all__ = ["SHUFFLE", "WINDOWS", "Order", "Part", "Source", "shuffled"]

READING, SHUFFLE, WINDOWS = range(1, 4)  # first in the seeds of what is drawn, so that no two are alike


class Part(NamedTuple):
    """What one rank reads of one corpus in an epoch, and how its batches take it.

    ``units``, ``epochs`` and ``repeats`` (n,) are in the order of reading: which unit, in which epoch of the corpus,
    and how many times it came before in that. ``due`` (n,) are places in these three, in the order in which batches
    take them; ``sizes`` (batches,) says how many each batch takes.
    """

    units: np.ndarray
    epochs: np.ndarray
    repeats: np.ndarray
    due: np.ndarray
    sizes: np.ndarray


class Order(Protocol):
    """Which unit comes when: a function of its settings, the epoch and the rank."""

    @property
    def ranks(self) -> int:
        """Processes that train together."""

    @property
    def steps(self) -> int:
        """Batches of each rank, the same in every epoch."""

    def epoch(self, epoch: int, rank: int) -> list[Part]:
        """Order a rank's epoch: by corpus, the main one first."""


@dataclass(frozen=True, eq=False)
class Source:
    """One corpus: the units in each shard, and the length in samples of each unit's longest clip, (N,).

    ``seed``: of its order. ``weight``: its share of all units, of a corpus that is mixed in. ``expected`` (N,): how
    often each unit is to come in an epoch, of sum N; None: once.
    """

    counts: tuple[int, ...]
    lengths: np.ndarray
    seed: tuple[int, ...] = (0,)
    weight: float = 0.0
    expected: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Order all units of an epoch, with the repeat of each: (N,) each.

        Shards come in a random order, from a random place on: neighbouring spans go to different ranks, and shuffling
        inside a span is theirs. With ``expected`` an epoch is several passes over the shards.
        """
        units, repeats, passes = np.arange(len(self)), np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        if self.expected is not None:
            units, repeats, passes = draw(self.expected, epoch, self.seed)
        generator = np.random.default_rng([READING, *self.seed, epoch])
        places = np.array([generator.permutation(len(self.counts)) for _ in range(passes[-1] + 1)])
        shards = np.searchsorted(np.cumsum(self.counts), units, side="right")
        order = np.lexsort((places[passes, shards], passes))
        order = np.roll(order, int(generator.integers(len(self))))
        return units[order], repeats[order]

    def span(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find units, their epochs and repeats at the places ``start`` to ``stop``, counted over all epochs."""
        first, last = start // len(self), max(start, stop - 1) // len(self)
        made = [self.epoch(epoch) for epoch in range(first, last + 1)]
        units, repeats = (np.concatenate(parts) for parts in zip(*made, strict=True))
        part = slice(start - first * len(self), stop - first * len(self))
        epochs = np.repeat(np.arange(first, last + 1), len(self))
        return units[part], epochs[part], repeats[part]


def shuffled(count: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Shuffle the places 0 to ``count``, each by less than ``size`` places, so that few units are held at a time."""
    return np.argsort(np.arange(count) + size * generator.random(count), kind="stable")
