"""Batches of clips of like length: so many padded seconds in each, whatever the number of clips."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from w2v_abx.data.order.lane import Lane, buffered, ticket_lengths
from w2v_abx.data.order.order import Order
from w2v_abx.data.order.sequence import Sequence, Stretch

__all__ = ["SecondsOrder", "padding"]


@dataclass(frozen=True, eq=False)
class SecondsOrder:
    """Batches of at most ``budget`` samples with their padding, of which at most the share ``waste`` is padding.

    Clips whose lengths differ by no more than ``waste`` share a bucket, and only those share a batch. The corpus is cut
    once into as many chunks as there are lanes (streams of all ranks), each with a fixed number of batches from each
    bucket; chunks with fewer batches than the others have some of theirs split. So every rank has the same number of
    batches, and every epoch too. Each epoch deals the chunks to the lanes anew, reads a chunk's shards in another order
    through the buffer of ``shuffle`` clips, and gives each batch when its last clip has come.
    """

    counts: tuple[int, ...]
    lengths: np.ndarray  # samples of each clip
    budget: int  # samples in a batch of all ranks together
    waste: float
    ranks: int = 1
    streams: int = 1
    shuffle: int = 1
    seed: int = 0

    def batches(self, rank: int) -> int:
        """Batches of a rank in an epoch."""
        return int(self._chunks[0][1].sum()) * self.streams

    def lane(self, epoch: int, rank: int, stream: int) -> Lane:
        """What a stream of a rank reads and gives in an epoch."""
        dealt = np.random.default_rng([self.seed, epoch]).permutation(len(self._chunks))
        chunk = int(dealt[rank * self.streams + stream])
        generator = np.random.default_rng([self.seed, epoch, chunk])
        parts, batches = self._chunks[chunk]
        stretches = [replace(parts[place], epoch=epoch) for place in generator.permutation(len(parts))]
        given = buffered(sum(map(len, stretches)), self.shuffle, generator)
        buckets = self._buckets[self._clips(stretches)][given]
        made = [
            part
            for bucket in np.flatnonzero(batches)
            for part in np.array_split(np.flatnonzero(buckets == bucket), batches[bucket])
        ]
        made.sort(key=lambda places: int(places[-1]))
        return Lane((stretches,), (given[np.concatenate(made)],), np.array([[len(places)] for places in made]))

    def _clips(self, stretches: list[Stretch]) -> np.ndarray:
        return ticket_lengths(stretches, self._firsts, np.arange(len(self.lengths)))

    @cached_property
    def _firsts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.counts)])

    @cached_property
    def _buckets(self) -> np.ndarray:
        """The bucket of each clip; bucket 0 holds the longest."""
        ratio = np.log(self.lengths.max() / self.lengths.astype(np.float64)) / -np.log1p(-self.waste)
        return np.floor(ratio + 1e-9).astype(np.int64)

    @cached_property
    def _chunks(self) -> list[tuple[list[Stretch], np.ndarray]]:
        """The stretches of each chunk, and its batches from each bucket."""
        longest = np.zeros(self._buckets.max() + 1, dtype=np.int64)
        np.maximum.at(longest, self._buckets, self.lengths)
        fit = np.maximum(1, self.budget // self.ranks // np.maximum(1, longest))
        lanes, total = self.ranks * self.streams, len(self.lengths)
        cuts = [total * lane // lanes for lane in range(lanes + 1)]
        sequence = Sequence(self.counts, True, self.seed)
        spans = list(pairwise(cuts))

        def chunk(start: int, stop: int) -> tuple[list[Stretch], np.ndarray]:
            stretches = list(sequence.stretches(0, start, stop))
            held = np.bincount(self._buckets[self._clips(stretches)], minlength=len(fit)) if stretches else fit * 0
            return stretches, held

        most = max(int((-(-chunk(*span)[1] // fit)).sum()) for span in spans)
        chunks = []
        for start, stop in spans:
            # One that has fewer clips than others have batches sees some of the next one's, too.
            stretches, held = chunk(start, max(stop, start + most))
            batches = -(-held // fit)
            while batches.sum() < most:
                batches[np.argmax(np.where(held > batches, held / np.maximum(1, batches), 0))] += 1
            chunks.append((stretches, batches))
        return chunks


def padding(order: Order | SecondsOrder, lengths: list[np.ndarray], epoch: int = 0) -> float:
    """The share of an epoch's samples that are padding; ``lengths`` of the clips, by corpus (the main one first)."""
    counts = [order.counts, *(mixed.counts for mixed in getattr(order, "mixed", ()))]
    firsts = [np.concatenate([[0], np.cumsum(of)]) for of in counts]
    filled, padded = 0, 0
    for rank in range(order.ranks):
        for stream in range(order.streams):
            lane = order.lane(epoch, rank, stream)
            sizes = [ticket_lengths(*parts) for parts in zip(lane.stretches, firsts, lengths, strict=True)]
            for batch in lane.tickets():
                of = np.concatenate([size[tickets] for size, tickets in zip(sizes, batch, strict=True)])
                filled, padded = filled + int(of.sum()), padded + len(of) * int(of.max())
    return 1 - filled / padded
