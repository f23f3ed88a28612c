"""Order batches of a fixed number of units: of one corpus, or of several in fixed shares."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor

import numpy as np

from w2v_abx.data.order.balance import passes_of
from w2v_abx.data.order.reading import SHUFFLE, WINDOWS, Part, Source, shuffled

__all__ = ["FixedOrder"]

ROUNDING = 1e-6  # of units and batches that are computed in floating point


@dataclass(frozen=True, eq=False)
class FixedOrder:
    """Batches of ``batch_size`` units over all ranks.

    An epoch is one pass over the main corpus, the first of the ``sources``. Ranks take consecutive parts of it, in each
    of which units move by less than ``shuffle`` places. All ranks have as many batches; in the last, a rank for which
    nothing is left sees a unit for a second time.

    Corpora that are mixed in go on from where they were at the end of the epoch before, each in epochs of its own.
    Each epoch takes of them what brings their shares of all units so far nearest to their weights, to a unit, and
    spreads that evenly over its batches; batches and their number are the same in every epoch but for the last batch's
    size, which one unit more or less can change.

    With ``window``, the units of so many batches of a rank are sorted by length and dealt out again, so that each
    batch holds clips of like length; the same quantile of lengths comes in the same step on every rank. Where units
    repeat in an epoch, a window is no longer than a pass over the shards: repeats are of one length.
    """

    sources: tuple[Source, ...]
    batch_size: int
    ranks: int = 1
    shuffle: int = 256
    seed: int = 0
    drop_last: bool = False
    window: int | None = None

    @cached_property
    def steps(self) -> int:
        """Batches of each rank, the same in every epoch."""
        batches = (len(self.sources[0]) + sum(self._ideal)) / self.batch_size
        return floor(batches + ROUNDING) if self.drop_last else ceil(batches - ROUNDING)

    def sizes(self, epoch: int) -> np.ndarray:
        """Count the units in each batch, by step, rank and corpus."""
        totals = [stop - start for start, stop in self._spans(epoch)]
        total = min(sum(totals), self.steps * self.batch_size)
        sizes = np.full((self.steps, self.ranks), self.batch_size // self.ranks)
        low, extra = divmod(total - (self.steps - 1) * self.batch_size, self.ranks)
        sizes[-1] = np.maximum(low + (np.arange(self.ranks) < extra), 1)
        if len(totals) == 1:
            return sizes[..., None]
        of = _spread(totals)[:total]
        starts = np.cumsum(sizes) - sizes.ravel()
        counts = [np.add.reduceat(of == corpus, starts, dtype=np.int64) for corpus in range(len(totals))]
        return np.stack(counts, -1).reshape(*sizes.shape, -1)

    def epoch(self, epoch: int, rank: int) -> list[Part]:
        """Order a rank's epoch: by corpus."""
        sizes = self.sizes(epoch)
        starts = sizes[:, :rank].sum((0, 1))
        parts = []
        for corpus, (source, (begin, _)) in enumerate(zip(self.sources, self._spans(epoch), strict=True)):
            own, start = sizes[:, rank, corpus], begin + int(starts[corpus])
            units, epochs, repeats = source.span(start, start + int(own.sum()))
            due = shuffled(len(units), self.shuffle, np.random.default_rng([SHUFFLE, self.seed, epoch, rank, corpus]))
            if self.window is not None:
                due = self._alike(due, source.lengths[units], own, epoch)
            parts.append(Part(units, epochs, repeats, due, own))
        return parts

    def _alike(self, due: np.ndarray, lengths: np.ndarray, sizes: np.ndarray, epoch: int) -> np.ndarray:
        """Sort each window of batches by length, and shuffle the batches of the window."""
        assert self.window is not None
        expected, window = self.sources[0].expected, self.window
        if expected is not None:
            window = max(1, min(window, len(sizes) // passes_of(expected)))
        ends = np.cumsum(sizes)
        dealt = []
        for number, first in enumerate(range(0, len(sizes), window)):
            own = sizes[first : first + window]
            end = int(ends[first + len(own) - 1])
            chosen = due[end - int(own.sum()) : end]
            chosen = chosen[np.argsort(lengths[chosen], kind="stable")]
            # Not of the rank: the same batch of all of them gets the same quantile.
            order = np.random.default_rng([WINDOWS, self.seed, epoch, number]).permutation(len(own))
            groups = np.split(chosen, np.cumsum(own[order])[:-1])
            dealt += [groups[place] for place in np.argsort(order)]
        return np.concatenate(dealt)

    @cached_property
    def _ideal(self) -> list[float]:
        """Units of each mixed-in corpus in an epoch, if units could be split."""
        main, *mixed = self.sources
        return [len(main) * source.weight / (1 - sum(other.weight for other in mixed)) for source in mixed]

    def _spans(self, epoch: int) -> list[tuple[int, int]]:
        """Find the places of each corpus, counted over all its epochs, that the epoch takes."""
        main = len(self.sources[0])
        most = self.steps * self.batch_size - main
        # Each rank has a unit in the last batch.
        least = most if self.drop_last else most - self.batch_size + self.ranks
        while self._ideal and len(self._stops) <= epoch + 1:
            start, past = self._stops[-1], len(self._stops)
            stop = [
                max(before, floor(past * ideal + ROUNDING)) for before, ideal in zip(start, self._ideal, strict=True)
            ]
            taken = sum(stop) - sum(start)
            stop[int(np.argmax(self._ideal))] += max(0, least - taken)
            for _ in range(0 if self.drop_last else taken - most):
                stop[int(np.argmax(np.subtract(stop, start)))] -= 1  # it comes in a later epoch
            self._stops.append(stop)
        mixed = zip(self._stops[epoch], self._stops[epoch + 1], strict=True) if self._ideal else ()
        return [(epoch * main, (epoch + 1) * main), *mixed]

    @cached_property
    def _stops(self) -> list[list[int]]:
        """Where the first epoch begins in each mixed-in corpus, and where each that is known stops."""
        return [[0] * len(self._ideal)]


def _spread(totals: list[int]) -> np.ndarray:
    """Number the corpora, each as often as its total, as evenly spread as can be."""
    times = np.concatenate([(np.arange(total) + 0.5) / max(1, total) for total in totals])
    of = np.repeat(np.arange(len(totals), dtype=np.int16), totals)
    return of[np.argsort(times, kind="stable")]
