"""Read the clips of validation and test once each, as they lie in the shards."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from w2v_abx.data.order.reading import Part, Source

__all__ = ["HeldOutOrder"]


@dataclass(frozen=True, eq=False)
class HeldOutOrder:
    """Batches of at most ``batch_size`` units over all ranks, corpus after corpus.

    Ranks take consecutive parts and have as many batches each. Where a rank would have fewer, its last batch is split;
    where that holds one unit only, all ranks do with a batch less.
    """

    sources: tuple[Source, ...]
    batch_size: int
    ranks: int = 1

    @property
    def steps(self) -> int:
        """Batches of each rank."""
        total = sum(map(len, self.sources))
        return min(ceil(ceil(total / self.ranks) / (self.batch_size // self.ranks)), total // self.ranks)

    def epoch(self, epoch: int, rank: int) -> list[Part]:
        """Order what a rank reads: by corpus."""
        total, steps, local = sum(map(len, self.sources)), self.steps, self.batch_size // self.ranks
        start, stop = (total * edge // self.ranks for edge in (rank, rank + 1))
        full = np.minimum(np.arange(1, steps) * local, stop - start - np.arange(steps - 1, 0, -1))
        cuts = np.array([start, *(start + full), stop])
        parts, first = [], 0
        for source in self.sources:
            inside = np.clip(cuts - first, 0, len(source))
            units = np.arange(inside[0], inside[-1])
            parts.append(Part(units, 0 * units, 0 * units, np.arange(len(units)), np.diff(inside)))
            first += len(source)
        return parts
