"""The batches of one rank: its clips read, cut, decoded and put together."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor

from w2v_abx.data.batch import Batch, Target, collate
from w2v_abx.data.corpus import Pool, PreparedCorpus
from w2v_abx.data.crops import crop_start, labels_within
from w2v_abx.data.order import Lane, Order, SecondsOrder, Stretch
from w2v_abx.items.frames import FrameClock
from w2v_abx.shards import Sample

__all__ = ["Asked", "Labelled", "ShardDataset"]

Cut = tuple[Sample, int, int, dict[str, Any]]  # a clip, first sample and number of samples, and the labels there


class Labelled(Protocol):
    """What makes a clip's labels a tensor: a head."""

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        """Make the target of a clip of so many frames; None: it has no such label."""


@dataclass(frozen=True)
class Asked:
    """What batches are to hold beside audio.

    ``heads``: by name. ``frames``: of a clip of so many samples. ``clock``: when they are.
    """

    heads: Mapping[str, Labelled] = field(default_factory=dict)
    frames: Callable[[int], int] = lambda samples: 0
    clock: FrameClock = field(default_factory=lambda: FrameClock(Fraction(1)))


class ShardDataset:
    """Batches of one rank, in as many streams as its order has. The first corpus is the main one.

    ``pinned``: waveforms lie where a GPU takes them from without waiting.
    """

    def __init__(
        self,
        corpora: Sequence[PreparedCorpus],
        order: Order | SecondsOrder,
        rank: int,
        asked: Asked,
        random: bool,
        pinned: bool = False,
    ) -> None:
        self.corpora, self.order, self.rank, self.asked = tuple(corpora), order, rank, asked
        self.random = random  # crops start anywhere rather than lie in the middle
        self.pinned = pinned
        self._kinds: dict[str, Tensor] = {}

    def streams(self, epoch: int, skip: int) -> list[Generator[Batch]]:
        """What is left of an epoch after ``skip`` batches: one of each stream in turn."""
        streams = []
        for turn in range(skip, skip + self.order.streams):
            stream = turn % self.order.streams
            done = -(-(skip - stream) // self.order.streams)
            streams.append(self._batches(self.order.lane(epoch, self.rank, stream), done))
        return streams

    def _batches(self, lane: Lane, done: int) -> Generator[Batch]:
        passed = lane.quotas[:done].sum(0).tolist()
        pools = [Pool(*parts) for parts in zip(self.corpora, lane.stretches, lane.given, passed, strict=True)]
        for quota in lane.quotas[done:].tolist():
            yield self._collate(
                [
                    (corpus, self._cut(corpus, *entry))
                    for corpus, pool, count in zip(self.corpora, pools, quota, strict=True)
                    for entry in pool.take(count)
                ]
            )

    def _cut(self, corpus: PreparedCorpus, sample: Sample, stretch: Stretch, place: int) -> Cut:
        """A clip's crop, and its labels with times counted from the crop's start."""
        if corpus.crop is None or sample.length <= corpus.crop:
            return sample, 0, sample.length, sample.labels
        spare = sample.length - corpus.crop
        start = spare // 2
        if self.random:
            turn = 0 if stretch.turns is None else int(stretch.turns[place])
            identity = (self.order.seed, stretch.epoch, sample.key, *([turn] if turn else []))
            start = crop_start(spare, *identity)
        return sample, start, corpus.crop, labels_within(sample.labels, start, corpus.crop)

    def _collate(self, clips: Sequence[tuple[PreparedCorpus, Cut]]) -> Batch:
        lengths = torch.tensor([length for _, (_, _, length, _) in clips])
        waveforms = torch.empty(len(clips), int(lengths.max()), pin_memory=self.pinned)
        for row, (_, (sample, start, length, _)) in zip(waveforms.numpy(), clips, strict=True):
            sample.decode_into(row[:length], start)
            row[length:] = 0
        return Batch(
            [sample.key for _, (sample, _, _, _) in clips],
            [corpus.name for corpus, _ in clips],
            waveforms,
            lengths,
            {name: self._target(name, head, clips) for name, head in self.asked.heads.items()},
        )

    def _target(self, name: str, head: Labelled, clips: Sequence[tuple[PreparedCorpus, Cut]]) -> Target:
        made = [
            head.target(labels, self.asked.frames(length), self.asked.clock) if corpus.labelled else None
            for corpus, (_, _, length, labels) in clips
        ]
        target = collate(made, self._kinds.get(name))
        if target.present.any():  # what targets look like, for batches where no clip has one
            self._kinds.setdefault(name, next(each for each in made if each is not None))
        return target
