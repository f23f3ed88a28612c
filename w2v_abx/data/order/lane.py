"""What one worker of one rank reads in an epoch, and in which batches it gives that out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from w2v_abx.data.order.sequence import Stretch

__all__ = ["Lane", "buffered", "ticket_lengths"]


@dataclass(frozen=True)
class Lane:
    """The stretches of each corpus in reading order, and the batches that are made of them.

    A ticket is a clip's place in the reading of its corpus, from 0. ``given`` holds, by corpus, the tickets in the
    order in which clips are given out; batch k takes the next ``quotas[k, c]`` of each corpus c.
    """

    stretches: tuple[Sequence[Stretch], ...]
    given: tuple[np.ndarray, ...]
    quotas: np.ndarray  # (batches, corpora)

    def tickets(self) -> list[list[np.ndarray]]:
        """By batch and corpus."""
        ends = np.cumsum(self.quotas, 0)
        return [
            [given[end - count : end] for given, end, count in zip(self.given, row, counts, strict=True)]
            for row, counts in zip(ends, self.quotas, strict=True)
        ]


def buffered(count: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """The order in which a shuffle buffer of ``size`` gives out ``count`` things that come one after another."""
    filled = min(size, count)
    buffer = list(range(filled))
    out = np.empty(count, dtype=np.int64)
    for number, place in enumerate(generator.integers(size, size=count - filled).tolist()):
        out[number] = buffer[place]
        buffer[place] = filled + number
    out[count - filled :] = np.array(buffer, dtype=np.int64)[generator.permutation(filled)]
    return out


def ticket_lengths(stretches: Sequence[Stretch], firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The length of each ticket's clip, given those of the corpus and with which clip each shard begins."""
    if not stretches:
        return np.zeros(0, dtype=lengths.dtype)
    return lengths[np.concatenate([firsts[stretch.shard] + stretch.numbers for stretch in stretches])]
