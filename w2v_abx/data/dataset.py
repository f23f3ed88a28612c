"""The batches of one rank: its clips read, cut, decoded and put together."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from w2v_abx.data.corpus import Pool, PreparedCorpus
from w2v_abx.data.crops import crop_start, labels_within
from w2v_abx.data.order import Lane, Order, SecondsOrder, Stretch
from w2v_abx.errors import InputError
from w2v_abx.shards import Sample

__all__ = ["Batch", "ShardDataset", "Target"]

# keys: list[str], corpora: list[str], waveforms (B, T) float32, lengths (B,) int64, targets: {name: (B, …)}
Batch = dict[str, Any]
Cut = tuple[Sample, int, int, dict[str, Any]]  # a clip, first sample and number of samples, and the labels there

IGNORED = -100  # the integer target that torch's losses leave out


class Target(Protocol):
    """What makes a clip's labels a tensor: a head, usually."""

    def encode(self, labels: Mapping[str, Any]) -> Tensor: ...


class ShardDataset:
    """Batches of one rank, in as many streams as its order has. The first corpus is the main one.

    ``pinned``: waveforms lie where a GPU takes them from without waiting.
    """

    def __init__(
        self,
        corpora: Sequence[PreparedCorpus],
        order: Order | SecondsOrder,
        rank: int,
        targets: Mapping[str, Target],
        random: bool,
        pinned: bool = False,
    ) -> None:
        self.corpora, self.order, self.rank, self.targets = tuple(corpora), order, rank, targets
        self.random = random  # crops start anywhere rather than lie in the middle
        self.pinned = pinned
        self._unknown: dict[str, Tensor] = {}

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
        return {
            "keys": [sample.key for _, (sample, _, _, _) in clips],
            "corpora": [corpus.name for corpus, _ in clips],
            "waveforms": waveforms,
            "lengths": lengths,
            "targets": {
                name: torch.stack([self._target(name, corpus, labels) for corpus, (_, _, _, labels) in clips])
                for name in self.targets
            },
        }

    def _target(self, name: str, corpus: PreparedCorpus, labels: Mapping[str, Any]) -> Tensor:
        if corpus.labelled:
            return self.targets[name].encode(labels)
        if name not in self._unknown:
            self._unknown[name] = _unknown(name, self.targets[name].encode(self._first().labels))
        return self._unknown[name]

    def _first(self) -> Sample:
        """A clip of the main corpus, whose target shows what targets look like."""
        _, sample = next(self.corpora[0].read(Stretch(0, np.zeros(1, int), 0), np.ones(1, bool)))
        return sample


def _unknown(name: str, target: Tensor) -> Tensor:
    """The target of a clip that has none."""
    if target.is_floating_point():
        return torch.full_like(target, torch.nan)
    if target.dtype == torch.bool or not target.dtype.is_signed:
        raise InputError(f"the target {name!r} ({target.dtype}) cannot say that a clip of a mixed-in corpus has none")
    return torch.full_like(target, IGNORED)
