"""Order batches of clips of like length: so many padded seconds in each, whatever the number of clips."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from w2v_abx.data.order.balance import GOLDEN
from w2v_abx.data.order.reading import SHUFFLE, Part, Source, shuffled

__all__ = ["SecondsOrder"]


@dataclass(frozen=True, eq=False)
class SecondsOrder:
    """Batches of at most ``budget`` samples over all ranks, of which at most the share ``max_padding`` is padding.

    Clips whose lengths differ by no more than ``max_padding`` are in one bucket, and only those share a batch. An epoch
    is one pass over the main corpus, the first of the ``sources``. Every rank gets as many clips of each bucket, and
    reads its own through a shuffle of ``shuffle`` places. A batch comes when its last clip does: clips of rare lengths
    wait long, and their batches come late in the epoch. All ranks have as many batches, the same number in every epoch:
    where one would have fewer, some of its batches are split, or, with as few clips as batches, it sees one twice.

    Corpora that are mixed in go on from where they were at the end of the epoch before, bucket by bucket, and have
    their shares of all clips, to a clip in each epoch; a batch holds whatever is of like length.
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
        """Batches of each rank, the same in every epoch: as many as the fullest one may need.

        Of each mixed-in corpus a rank takes at least so many units of each bucket, and of the others it is not known
        which bucket they are in: each of them may need a batch, or each bucket may hold one more.
        """
        main, *mixed = self._ideal
        least = [np.floor(ideal).astype(np.int64) // self.ranks for ideal in mixed]
        others = sum(ceil(ceil(ideal.sum()) / self.ranks) - own.sum() for ideal, own in zip(mixed, least, strict=True))
        most = sum((np.ceil(np.ceil(ideal) / self.ranks).astype(np.int64) for ideal in mixed), 0 * self._fit)
        own = self._dealt(main.astype(np.int64))
        needs = [-(-(held + sum(least, 0 * held)) // self._fit) for held in own]
        bounds = [-(-(held + most) // self._fit) for held in own]
        return max(min(int(few.sum() + others), int(many.sum())) for few, many in zip(needs, bounds, strict=True))

    def epoch(self, epoch: int, rank: int) -> list[Part]:
        """Order a rank's epoch: by corpus."""
        generator = np.random.default_rng([SHUFFLE, self.seed, epoch, rank])
        spans = self._rank(epoch, rank)
        dues = [shuffled(len(units), self.shuffle, generator) for units, _, _ in spans]
        # All corpora in one sequence, evenly spread; then the batches of each bucket, in the order of their last units.
        corpus = np.repeat(np.arange(len(dues)), [len(due) for due in dues])
        times = np.concatenate([(np.arange(len(due)) + 0.5) / max(1, len(due)) for due in dues])
        sequence = np.argsort(times, kind="stable")
        corpus, place = corpus[sequence], np.concatenate(dues)[sequence]
        of = [buckets[units] for buckets, (units, _, _) in zip(self._buckets, spans, strict=True)]
        bucket = np.concatenate([own[due] for own, due in zip(of, dues, strict=True)])[sequence]
        held = np.bincount(bucket, minlength=len(self._fit))
        batches, members = self._split(held), np.split(np.argsort(bucket, kind="stable"), np.cumsum(held)[:-1])
        made = [part for number in np.flatnonzero(batches) for part in np.array_split(members[number], batches[number])]
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
        spans = []
        for corpus in range(len(self.sources)):
            span = self._taken(corpus, epoch)
            of = self._buckets[corpus][span[0]]
            dealt = self._dealt(np.bincount(of, minlength=len(self._fit)))
            number = _occurrences(of)  # in its bucket
            inside = (dealt[:rank].sum(0)[of] <= number) & (number < dealt[: rank + 1].sum(0)[of])
            spans.append((span, np.flatnonzero(inside)))
        if (missing := self.steps - sum(len(mine) for _, mine in spans)) > 0:
            span, mine = spans[0]
            others = np.setdiff1d(np.arange(len(span[0])), mine)
            spans[0] = span, np.sort(np.concatenate([mine, np.resize(others if len(others) else mine, missing)]))
        return [tuple(values[mine] for values in span) for span, mine in spans]  # type: ignore[misc]

    def _taken(self, corpus: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the units of a corpus that an epoch takes."""
        source, of = self.sources[corpus], self._buckets[corpus]
        if not corpus:
            return source.span(epoch * len(source), (epoch + 1) * len(source))
        sizes = np.bincount(of, minlength=len(self._fit))
        counts = self._counts(corpus, epoch + 1)
        starts, stops = counts[:-1].sum(0), counts.sum(0)
        some = stops > starts
        if not some.any():
            return source.span(0, 0)
        first = int((starts[some] // sizes[some]).min())
        last = int(((stops[some] - 1) // sizes[some]).max())
        span = source.span(first * len(source), (last + 1) * len(source))
        within = of[span[0]]
        number = first * sizes[within] + _occurrences(within)  # in its bucket, counted over all epochs
        mine = (starts[within] <= number) & (number < stops[within])
        return tuple(values[mine] for values in span)

    def _counts(self, corpus: int, epochs: int) -> np.ndarray:
        """Count what each of the first epochs takes of each bucket, (epochs, buckets): the ideal, rounded down or up.

        By systematic sampling, as in `w2v_abx.data.order.balance`: so the sum over buckets is the ideal one rounded.
        """
        sums = np.concatenate([[0.0], np.cumsum(self._ideal[corpus])])
        offsets = (np.arange(epochs) * GOLDEN) % 1
        counts = np.diff(np.floor(sums + offsets[:, None]), axis=1)
        return np.minimum(counts, np.ceil(self._ideal[corpus])).astype(np.int64)  # but for rounding

    def _dealt(self, counts: np.ndarray) -> np.ndarray:
        """Deal the units of each bucket to ranks, (ranks, buckets); what is left over goes to each rank in turn."""
        left = counts % self.ranks
        first = np.cumsum(left) - left
        later = (np.arange(self.ranks)[:, None] - first) % self.ranks
        dealt: np.ndarray = counts // self.ranks + (later < left)
        return dealt

    def _split(self, held: np.ndarray) -> np.ndarray:
        """Count the batches of each bucket, which ``held`` units make: together as many as there are steps."""
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
