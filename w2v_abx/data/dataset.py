"""The batches of one rank: clips read, cut, decoded and put together."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.batch import Batch, collate
from w2v_abx.data.corpus import PreparedCorpus
from w2v_abx.data.crops import crop_start, labels_within
from w2v_abx.data.noise import Noise
from w2v_abx.data.order import Order, Part
from w2v_abx.errors import InputError
from w2v_abx.items.frames import FrameClock
from w2v_abx.shards import Sample

__all__ = ["STATES", "Asked", "Cut", "Labelled", "ShardDataset", "Stored"]

STATES = "stored_states"  # what features that are read instead of audio are called in `Batch.extra`
WINDOW = 256  # clips, neighbours in the shards, that are sorted by length
Stored = Mapping[int, Mapping[str, Tensor]]  # by layer and `Cut.name`: (F, D)


class Labelled(Protocol):
    """Turns the labels of a clip into a target tensor: a head."""

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        """Make the target of a clip of so many frames; None: it has no such label."""


@dataclass(frozen=True)
class Asked:
    """The targets that batches are to hold beside audio.

    ``heads``: by name. ``frames``: of a clip of so many samples. ``clock``: when they are.
    """

    heads: Mapping[str, Labelled] = field(default_factory=dict)
    frames: Callable[[int], int] = lambda samples: 0
    clock: FrameClock = field(default_factory=lambda: FrameClock(Fraction(1)))


class Cut(NamedTuple):
    """A clip, still encoded: its first sample, the number of samples, and the labels there.

    ``occasion``: the epoch of its corpus, and how many times it came before in that, unless none.
    """

    corpus: PreparedCorpus
    sample: Sample
    start: int
    length: int
    labels: dict[str, Any]
    occasion: tuple[int, ...]

    @property
    def name(self) -> str:
        """The clip's name among those of all corpora."""
        return f"{self.corpus.name}/{self.sample.key}"


class ShardDataset:
    """Batches of one rank: `encoded` reads them, `decoded` makes them tensors. The first corpus is the main one.

    ``crop_seed``: of crops that start anywhere; None: they lie in the middle. ``pinned``: waveforms lie where a GPU
    takes them from without waiting. ``noise``: mixed into all clips; None: none. ``stored``: the features that batches
    have, under `STATES`, instead of audio; None: they have audio.
    """

    def __init__(
        self,
        corpora: Sequence[PreparedCorpus],
        order: Order,
        rank: int,
        asked: Asked,
        crop_seed: int | None = None,
        pinned: bool = False,
        noise: Noise | None = None,
        stored: Callable[[], Stored | None] = lambda: None,
    ) -> None:
        self.corpora, self.order, self.rank, self.asked = tuple(corpora), order, rank, asked
        self.crop_seed, self.pinned, self.noise, self.stored = crop_seed, pinned, noise, stored

    @property
    def varies(self) -> str:
        """Say why clips are not the same each time they are given out; empty: they are."""
        if self.crop_seed is None:
            return ""
        if self.noise is not None:
            return "noise.splits has train"
        cut = sum(int((corpus.index.samples > corpus.lengths).sum()) for corpus in self.corpora)
        return f"data.crop_seconds cuts {cut} training clips, each time elsewhere" if cut else ""

    @property
    def content(self) -> str:
        """A digest of the clips and of what is done to them, where they do not vary."""
        parts = [(each.name, each.content, len(each.lengths), each.crop) for each in self.corpora]
        noise = self.noise and (self.noise.identity, self.noise.seed)
        return hashlib.sha256(json.dumps([parts, noise]).encode()).hexdigest()

    def alike(self, seconds: float) -> list[tuple[PreparedCorpus, np.ndarray]]:
        """Divide all clips into batches of like length and at most so many seconds, padding counted: their numbers."""
        batches = []
        for corpus in self.corpora:
            for first in range(0, len(corpus.lengths), WINDOW):
                window = first + np.argsort(corpus.lengths[first : first + WINDOW], kind="stable")[::-1]
                while len(window):
                    size = max(1, int(seconds * SAMPLE_RATE / corpus.lengths[window[0]]))
                    batches.append((corpus, np.sort(window[:size])))
                    window = window[size:]
        return batches

    def cut(self, corpus: PreparedCorpus, clips: np.ndarray) -> list[Cut]:
        """Read some clips, as they are given out where they do not vary."""
        return [self._cut(corpus, sample, 0, 0) for sample in corpus.read(clips)]

    def encoded(self, epoch: int, skip: int) -> Iterator[list[Cut]]:
        """Read what is left of an epoch after ``skip`` batches; what only those need is not read."""
        parts = self.order.epoch(epoch, self.rank)
        streams = [self._read(*entry, skip) for entry in zip(self.corpora, parts, strict=True)]
        for batch in zip(*streams, strict=True):
            yield [cut for cuts in batch for cut in cuts]

    def _read(self, corpus: PreparedCorpus, part: Part, skip: int) -> Iterator[list[Cut]]:
        """Read a corpus in order; clips are held until they are due."""
        ends = np.cumsum(part.sizes)
        due = part.due[int(part.sizes[:skip].sum()) :]
        clips = corpus.units[part.units[np.sort(due)]]
        reading = zip(np.repeat(np.sort(due), clips.shape[1]).tolist(), corpus.read(clips.ravel()), strict=True)
        held: dict[int, list[Cut]] = defaultdict(list)
        for end, size in zip(ends[skip:], part.sizes[skip:], strict=True):
            batch: list[Cut] = []
            for place in part.due[end - size : end].tolist():
                while len(held[place]) < clips.shape[1]:
                    read, sample = next(reading)
                    held[read].append(self._cut(corpus, sample, int(part.epochs[read]), int(part.repeats[read])))
                batch += held.pop(place)
            yield batch

    def _cut(self, corpus: PreparedCorpus, sample: Sample, epoch: int, repeat: int) -> Cut:
        """Choose a clip's crop, and its labels with times counted from the crop's start."""
        occasion = (epoch, repeat) if repeat else (epoch,)
        if corpus.crop is None or sample.length <= corpus.crop:
            return Cut(corpus, sample, 0, sample.length, sample.labels, occasion)
        spare = sample.length - corpus.crop
        start = spare // 2
        if self.crop_seed is not None:
            start = crop_start(spare, self.crop_seed, epoch, sample.key, *occasion[1:])
        return Cut(corpus, sample, start, corpus.crop, labels_within(sample.labels, start, corpus.crop), occasion)

    def decoded(self, clips: Sequence[Cut]) -> Batch:
        """Decode clips into one batch, or read their features."""
        if (stored := self.stored()) is None:
            extra, (waveforms, lengths) = {}, self.waveforms(clips)
        else:
            waveforms, lengths = torch.empty(len(clips), 0), torch.tensor([clip.length for clip in clips])
            extra = {
                STATES: {
                    layer: pad_sequence([of[clip.name] for clip in clips], batch_first=True)
                    for layer, of in stored.items()
                }
            }
        return Batch(
            [clip.sample.key for clip in clips],
            [clip.corpus.name for clip in clips],
            waveforms,
            lengths,
            {name: collate([self._target(name, clip) for clip in clips]) for name in self.asked.heads},
            extra,
            [str(clip.labels.get("speaker") or "") for clip in clips],
        )

    def waveforms(self, clips: Sequence[Cut]) -> tuple[Tensor, Tensor]:
        """Decode clips: (B, T), zero past each clip's end, and their lengths (B,)."""
        lengths = torch.tensor([clip.length for clip in clips])
        longest = int(lengths.max())
        try:
            waveforms = torch.empty(len(clips), longest, pin_memory=self.pinned)
        except RuntimeError as error:  # one clip's index may promise days
            raise InputError(
                f"{len(clips)} clips of up to {longest / SAMPLE_RATE:g} s do not fit into memory: set "
                f"data.crop_seconds and data.eval_crop_seconds, or data.batch_size lower ({str(error).splitlines()[0]})"
            ) from error
        for row, clip in zip(waveforms.numpy(), clips, strict=True):
            clip.sample.decode(clip.start, out=row[: clip.length])
            if self.noise is not None:
                self.noise.mix(row[: clip.length], clip.corpus.name, clip.sample.key, *clip.occasion)
            row[clip.length :] = 0
        return waveforms, lengths

    def _target(self, name: str, clip: Cut) -> Tensor | None:
        """Make a head's target of a clip; what goes wrong there names both."""
        if not clip.corpus.labelled:
            return None
        try:
            return self.asked.heads[name].target(clip.labels, self.asked.frames(clip.length), self.asked.clock)
        except Exception as error:
            what = str(error) if isinstance(error, InputError) else f"objective.heads.{name}: {error!r}"
            raise InputError(f"{what} (target of the clip {clip.sample.key} of {clip.corpus.name})") from error
