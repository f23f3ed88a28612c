"""Batches of a fixed number of clips: of one corpus, or of several in fixed shares."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor

import numpy as np

from w2v_abx.data.order.lane import Lane, buffered, ticket_lengths
from w2v_abx.data.order.sequence import Sequence, Stretch

__all__ = ["Mixed", "Order"]

ROUNDING = 1e-6  # of clips and batches that are reckoned in floating point


@dataclass(frozen=True, eq=False)
class Mixed:
    """A corpus that is mixed in: clips in each shard, the share of all clips that is its own, and clips' lengths."""

    counts: tuple[int, ...]
    weight: float
    lengths: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Order:
    """Which clip comes when: a function of these numbers, the epoch, the rank and the stream (one for each worker).

    An epoch is one pass over the main corpus; see `Sequence` for its order. Ranks take consecutive parts of it, and
    their streams consecutive parts of those, in whole batches; each stream mixes its clips in a buffer of ``shuffle``.
    Batch k of a rank comes from its stream k mod ``streams``. All ranks have as many batches, unless there are fewer
    clips than ranks: for their last one some take a clip of the batch before, or, where that is its only one, some
    batches hold two clips.

    Corpora that are ``mixed`` in go on from where they were at the end of the epoch before, each in epochs of its own.
    Each epoch takes of them what brings their shares of all clips so far nearest to their weights, to a clip, and
    spreads that evenly over its batches; batches and their number are the same in every epoch but for the last batch's
    size, which one clip more or less can change.

    With ``window``, the clips of so many batches of a stream are sorted by length and dealt out again, so that each
    batch holds clips of like length; the same quantile of lengths comes in the same step on every rank.
    """

    counts: tuple[int, ...]  # clips in each shard
    batch_size: int  # of all ranks together
    ranks: int = 1
    streams: int = 1
    shuffle: int = 0
    seed: int = 0
    drop_last: bool = False
    even: bool = False  # every rank has a clip in the last step, for which one may see a clip twice
    mixed: tuple[Mixed, ...] = ()
    expected: np.ndarray | None = None  # how often each clip of the main corpus is to come in an epoch
    lengths: np.ndarray | None = None  # of its clips
    window: int | None = None

    @property
    def clips(self) -> int:
        """Clips of the main corpus."""
        return sum(self.counts)

    @property
    def local(self) -> int:
        """Clips in one rank's batch."""
        return self.batch_size // self.ranks

    @cached_property
    def steps(self) -> int:
        """Batches of an epoch."""
        batches = (self.clips + sum(self._ideal)) / self.batch_size
        return floor(batches + ROUNDING) if self.drop_last else ceil(batches - ROUNDING)

    def batches(self, rank: int) -> int:
        """Batches of one rank in an epoch."""
        if self.even or self.mixed:
            return self.steps
        return int((self.quotas(0)[:, rank].sum(1) > 0).sum())

    def quotas(self, epoch: int) -> np.ndarray:
        """Clips in each batch, by step, rank and corpus (the main one first)."""
        totals = [self.clips, *(stop - start for start, stop in self._mixed_in(epoch))]
        total = min(sum(totals), self.steps * self.batch_size)
        sizes = np.full((self.steps, self.ranks), self.local)
        if not self.steps:
            return np.zeros((0, self.ranks, len(totals)), dtype=np.int64)
        low, extra = divmod(total - (self.steps - 1) * self.batch_size, self.ranks)
        sizes[-1] = low + (np.arange(self.ranks) < extra)
        if self.even:
            sizes[-1] = np.maximum(sizes[-1], 1)
        elif self.steps > 1 and (without := sizes[-1] == 0).any():
            if self.local > 1:  # one of the batch before
                sizes[-2:] += np.outer([-1, 1], without)
            else:  # the last clips go with those before
                sizes[-2:] = [sizes[-2] + sizes[-1], 0 * without]
        if not self.mixed:
            return sizes[..., None]
        of = _spread(totals)[:total]
        starts = np.cumsum(sizes) - sizes.ravel()
        counts = [np.add.reduceat(of == corpus, starts, dtype=np.int64) for corpus in range(len(totals))]
        return np.stack(counts, -1).reshape(*sizes.shape, -1)

    def lane(self, epoch: int, rank: int, stream: int) -> Lane:
        """What a stream of a rank reads and gives in an epoch."""
        quotas = self.quotas(epoch)
        mine = quotas[stream :: self.streams, rank]
        mine = mine[mine.sum(1) > 0]
        starts = quotas[:, :rank].sum((0, 1)) + sum(
            (quotas[other :: self.streams, rank].sum(0) for other in range(stream)), np.zeros(quotas.shape[2], int)
        )
        stops = starts + mine.sum(0)
        stretches: list[list[Stretch]] = [list(self._main.stretches(epoch, int(starts[0]), int(stops[0])))]
        for sequence, (begin, _), start, stop in zip(
            self._others, self._mixed_in(epoch), starts[1:], stops[1:], strict=True
        ):
            stretches.append(list(sequence.endless(begin + int(start), begin + int(stop))))
        given = [np.arange(count) for count in mine.sum(0)]
        if self.shuffle:
            for corpus, tickets in enumerate(given):
                generator = np.random.default_rng([self.seed, epoch, rank, stream, corpus])
                given[corpus] = buffered(len(tickets), self.shuffle, generator)
        if self.window is not None:
            given = self._alike(given, stretches, mine, epoch)
        return Lane(tuple(stretches), tuple(given), mine)

    def _alike(
        self, given: list[np.ndarray], stretches: list[list[Stretch]], quotas: np.ndarray, epoch: int
    ) -> list[np.ndarray]:
        """The tickets of each window of batches sorted by length, and the batches of the window shuffled."""
        assert self.window is not None
        alike = []
        for corpus, (tickets, parts) in enumerate(zip(given, stretches, strict=True)):
            counts, lengths = self._sizes[corpus]
            firsts = np.concatenate([[0], np.cumsum(counts)])
            length = ticket_lengths(parts, firsts, lengths)
            ends = np.cumsum(quotas[:, corpus])
            dealt = []
            for number, first in enumerate(range(0, len(quotas), self.window)):
                sizes = quotas[first : first + self.window, corpus]
                end = int(ends[first + len(sizes) - 1])
                chosen = tickets[end - int(sizes.sum()) : end]
                chosen = chosen[np.argsort(length[chosen], kind="stable")]
                # Not of the rank and stream: the same batch of all of them gets the same quantile.
                order = np.random.default_rng([self.seed, epoch, number]).permutation(len(sizes))
                groups = np.split(chosen, np.cumsum(sizes[order])[:-1])
                dealt += [groups[place] for place in np.argsort(order)]
            alike.append(np.concatenate(dealt) if dealt else tickets)
        return alike

    @cached_property
    def _sizes(self) -> list[tuple[tuple[int, ...], np.ndarray]]:
        """Counts and lengths of each corpus."""
        sizes = [(self.counts, self.lengths), *((mixed.counts, mixed.lengths) for mixed in self.mixed)]
        return [(counts, lengths) for counts, lengths in sizes if lengths is not None]

    @cached_property
    def _main(self) -> Sequence:
        return Sequence(self.counts, self.shuffle > 0, self.seed, self.expected)

    @cached_property
    def _others(self) -> list[Sequence]:
        return [
            Sequence(mixed.counts, self.shuffle > 0, self.seed + 1 + number) for number, mixed in enumerate(self.mixed)
        ]

    @cached_property
    def _ideal(self) -> list[float]:
        """Clips of each mixed-in corpus in an epoch, if clips could be split."""
        own = 1 - sum(mixed.weight for mixed in self.mixed)
        return [self.clips * mixed.weight / own for mixed in self.mixed]

    def _mixed_in(self, epoch: int) -> list[tuple[int, int]]:
        """Positions of each mixed-in corpus, counted over all its epochs, that the epoch takes."""
        start, stop = [0] * len(self.mixed), [0] * len(self.mixed)
        most = self.steps * self.batch_size - self.clips
        # Each rank has a clip in the last batch.
        least = most if self.drop_last else most - self.batch_size + self.ranks
        for past in range(epoch + 1 if self.mixed else 0):
            start = stop
            stop = [
                max(before, floor((past + 1) * ideal + ROUNDING))
                for before, ideal in zip(start, self._ideal, strict=True)
            ]
            taken = sum(stop) - sum(start)
            stop[int(np.argmax(self._ideal))] += max(0, least - taken)
            for _ in range(0 if self.drop_last else taken - most):
                stop[int(np.argmax(np.subtract(stop, start)))] -= 1  # it comes in a later epoch
        return list(zip(start, stop, strict=True))


def _spread(totals: list[int]) -> np.ndarray:
    """The numbers of the corpora, each as often as its total, as evenly spread as can be."""
    times = np.concatenate([(np.arange(total) + 0.5) / max(1, total) for total in totals])
    of = np.repeat(np.arange(len(totals), dtype=np.int8), totals)
    return of[np.argsort(times, kind="stable")]
