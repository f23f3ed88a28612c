"""Order batches of clips of like length: so many padded seconds in each, whatever the number of clips."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from w2v_abx.data.order.reading import Part, Source, shuffled

__all__ = ["SecondsOrder"]


@dataclass(frozen=True, eq=False)
class SecondsOrder:
    """Batches of at most ``budget`` samples over all ranks, of which at most the share ``max_padding`` is padding.

    Clips whose lengths differ by no more than ``max_padding`` are in one bucket, and only those share a batch. An epoch
    is one pass over the main corpus, the first of the ``sources``. Every rank gets as many clips of each bucket, and
    reads its own through a shuffle of ``shuffle`` places; a batch comes when its last clip does. All ranks have as many
    batches, the same number in every epoch: where one would have fewer, some of its batches are split, or, with as few
    clips as batches, it sees one twice.

    Corpora that are mixed in go on from where they were at the end of the epoch before, bucket by bucket, and have
    their shares of all clips to a clip in each bucket; a batch holds whatever is of like length.
    """

    sources: tuple[Source, ...]
    budget: int
    max_padding: float
    ranks: int = 1
    shuffle: int = 256
    seed: int = 0
    group: int = 1  # clips in a unit

    @cached_property
    def steps(self) -> int:
        """Batches of each rank, the same in every epoch."""
        return max(int((-(-held // self._fit)).sum()) for held in self._shares(self._most).sum(0))

    def epoch(self, epoch: int, rank: int) -> list[Part]:
        """Order a rank's epoch: by corpus."""
        generator = np.random.default_rng([self.seed, epoch, rank])
        spans = self._rank(epoch, rank)
        dues = [shuffled(len(units), self.shuffle, generator) for units, _, _ in spans]
        # All corpora in one sequence, evenly spread; then the batches of each bucket, in the order of their last units.
        corpus = np.repeat(np.arange(len(dues)), [len(due) for due in dues])
        times = np.concatenate([(np.arange(len(due)) + 0.5) / max(1, len(due)) for due in dues])
        sequence = np.argsort(times, kind="stable")
        corpus, place = corpus[sequence], np.concatenate(dues)[sequence]
        of = [buckets[units] for buckets, (units, _, _) in zip(self._buckets, spans, strict=True)]
        bucket = np.concatenate([own[due] for own, due in zip(of, dues, strict=True)])[sequence]
        batches = self._split(np.bincount(bucket, minlength=len(self._fit)))
        made = [
            part
            for number in np.flatnonzero(batches)
            for part in np.array_split(np.flatnonzero(bucket == number), batches[number])
        ]
        made.sort(key=lambda units: int(units[-1]))
        joined = np.concatenate(made)
        step = np.repeat(np.arange(len(made)), [len(units) for units in made])
        return [
            Part(
                *span,
                place[joined[corpus[joined] == number]],
                np.bincount(step[corpus[joined] == number], minlength=len(made)),
            )
            for number, span in enumerate(spans)
        ]

    def _rank(self, epoch: int, rank: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Find a rank's units, their epochs and repeats, by corpus."""
        taken = [self._taken(corpus, epoch) for corpus in range(len(self.sources))]
        held = [
            np.bincount(buckets[units], minlength=len(self._fit))
            for buckets, (units, _, _) in zip(self._buckets, taken, strict=True)
        ]
        shares = self._shares(np.array(held))
        starts, stops = shares[:, :rank].sum(1), shares[:, : rank + 1].sum(1)
        spans = []
        for corpus, span in enumerate(taken):
            of = self._buckets[corpus][span[0]]
            number = _occurrences(of)  # in its bucket
            inside = (starts[corpus][of] <= number) & (number < stops[corpus][of])
            mine = np.flatnonzero(inside)
            if not corpus and (missing := self.steps - int(shares[:, rank].sum())) > 0:
                others = mine if inside.all() else np.flatnonzero(~inside)
                mine = np.sort(np.concatenate([mine, np.resize(others, missing)]))
            spans.append(tuple(values[mine] for values in span))
        return spans  # type: ignore[return-value]

    def _taken(self, corpus: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the units of a corpus that an epoch takes."""
        source, of = self.sources[corpus], self._buckets[corpus]
        if not corpus:
            return source.span(epoch * len(source), (epoch + 1) * len(source))
        sizes = np.bincount(of, minlength=len(self._fit))
        # Buckets do not all round up or down in the same epoch.
        phases = (np.arange(len(sizes)) + 0.5) / len(sizes)
        starts, stops = (np.floor((epoch + more) * self._ideal[corpus] + phases).astype(np.int64) for more in (0, 1))
        some = sizes > 0
        first, last = ((edge[some] // sizes[some]) for edge in (starts, np.maximum(starts, stops - 1)))
        first, last = int(first.min()), int(last.max())
        span = source.span(first * len(source), (last + 1) * len(source))
        number = first * sizes[of[span[0]]] + _occurrences(of[span[0]])  # in its bucket, counted over all epochs
        mine = (starts[of[span[0]]] <= number) & (number < stops[of[span[0]]])
        return tuple(values[mine] for values in span)

    def _shares(self, counts: np.ndarray) -> np.ndarray:
        """Deal units (corpora, buckets) to ranks, (corpora, ranks, buckets): what is left of a bucket goes in turn."""
        left = self._most.ravel() % self.ranks
        first = (np.cumsum(left) - left).reshape(counts.shape)  # that gets one more; the same in every epoch
        later = (np.arange(self.ranks)[:, None, None] - first) % self.ranks
        return (counts // self.ranks + (later < counts % self.ranks)).transpose(1, 0, 2)

    def _split(self, held: np.ndarray) -> np.ndarray:
        """Count the batches of each bucket that make as many as there are steps."""
        batches = -(-held // self._fit)
        while batches.sum() < self.steps:
            batches[np.argmax(np.where(held > batches, held / np.maximum(1, batches), 0))] += 1
        return batches

    @cached_property
    def _buckets(self) -> list[np.ndarray]:
        """Find the bucket of each unit, by corpus; bucket 0 holds the longest."""
        longest = max(source.lengths.max() for source in self.sources)
        return [
            np.floor(np.log(longest / source.lengths.astype(np.float64)) / -np.log1p(-self.max_padding) + 1e-9).astype(
                np.int64
            )
            for source in self.sources
        ]

    @cached_property
    def _fit(self) -> np.ndarray:
        """Count the units of each bucket that a rank's batch holds."""
        longest = np.zeros(max(buckets.max() for buckets in self._buckets) + 1, dtype=np.int64)
        for source, buckets in zip(self.sources, self._buckets, strict=True):
            np.maximum.at(longest, buckets, source.lengths)
        return np.maximum(1, self.budget // self.ranks // self.group // np.maximum(1, longest))

    @cached_property
    def _most(self) -> np.ndarray:
        """Count the most units of each corpus and bucket that an epoch takes."""
        return np.ceil(self._ideal - 1e-6).astype(np.int64)

    @cached_property
    def _ideal(self) -> np.ndarray:
        """Count the units of each corpus and bucket in an epoch, if units could be split."""
        main, *mixed = self.sources
        own = 1 - sum(source.weight for source in mixed)
        takes = [1.0, *(len(main) * source.weight / own / len(source) for source in mixed)]
        return np.array(
            [
                share * np.bincount(buckets, minlength=len(self._fit))
                for share, buckets in zip(takes, self._buckets, strict=True)
            ]
        )


def _occurrences(values: np.ndarray) -> np.ndarray:
    """Count how often each value came before."""
    order = np.argsort(values, kind="stable")
    sizes = np.bincount(values)
    counted = np.empty(len(values), dtype=np.int64)
    counted[order] = np.arange(len(values)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return counted
