"""Find the label of each frame: its phone, its tone, or the sex or emotion of who speaks."""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.corpora.columns import Column
from w2v_abx.data.batch import Batch
from w2v_abx.data.module import ShardDataModule, frames_of
from w2v_abx.errors import InputError
from w2v_abx.heads.confusion import Confusion, speaker_of
from w2v_abx.heads.head import CategoryHead, HeadResult, States
from w2v_abx.heads.phonology import Alphabet, broad_class, in_order
from w2v_abx.heads.readout import Readout
from w2v_abx.items.frames import FrameClock, frame_labels
from w2v_abx.items.labels import UNTIMED, parse_intervals
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import checks

__all__ = ["Framewise"]

Integers = npt.NDArray[np.int64]

LEFT_OUT = -1  # the class of a frame that is not asked about
QUIET = "silence"  # the class of frames without a label, where they are kept
SHOWN_KEYS = 3  # of clips that nothing is learnt from
TITLES = {
    "accuracy": "accuracy of frames",
    "unweighted_accuracy": "mean recall of frames (unweighted)",
    "chance": "accuracy of always the most frequent",
    "segment_accuracy": "accuracy of segments (majority of their frames)",
    "segment_unweighted_accuracy": "mean recall of segments (unweighted)",
    "segment_chance": "accuracy of always the most frequent, of segments",
    "segment_recall": "recall of segments",
}


class Framewise(CategoryHead):
    """Cross-entropy of each labelled frame, through one linear layer.

    A frame has the symbol of the interval that its centre lies in, as `w2v_abx.items.frames` says. A label without
    times, such as sex, holds for all frames of a clip. Clips of which no frame is labelled are counted, and named, when
    the head is made.

    Args:
        label: the clips' label: intervals of time (phones, tones), or one text.
        classes: the class that takes the place of each symbol which a regular expression fits wholly, with groups as in
            `re.sub`; None: the symbol is left out. Others stay as they are.
        silence: symbols that are no class.
        keep_silence: make one class, "silence", of these symbols and of frames in no interval; else they are left out.
        spread: frames that have a label without times: speech, those in phones that are no silence (all frames of a
            clip without the times of its phones), or all.
        class_weights: weigh each frame by one over its class's frames ("durations") or segments ("counts") in whole
            training clips, times what makes the mean weight of these frames one; None: all alike.
        alphabet: of the classes, "ipa" or "timit" (ARPAbet in lower case): the confusion matrix is then ordered by
            broad phonetic class; None: neither.
        label_smoothing: how much of each frame's probability all classes share.
        options: see `CategoryHead`.

    Raises:
        InputError: fewer than two classes, no training clip with a labelled frame, values out of range.
    """

    logged = ("accuracy", "unweighted_accuracy", "segment_accuracy")
    empty = "no frame carries its label"

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        name: str,
        label: str,
        classes: Mapping[str, str | None] | None = None,
        silence: Sequence[str] = (),
        keep_silence: bool = False,
        spread: Literal["speech", "all"] = "speech",
        class_weights: Literal["durations", "counts"] | None = None,
        label_smoothing: float = 0.0,
        alphabet: Alphabet | None = None,
        **options: Any,
    ) -> None:
        # These first, as `category` needs them.
        self.classes = Column.parse(f"objective.heads.{name}.classes", {"column": label, "values": classes or {}})
        self.silence, self.keep_silence, self.spread = frozenset(silence), keep_silence, spread
        super().__init__(encoder, data, name, label, **options)
        self.alphabet = checks.choice(
            self.key("alphabet"), alphabet, ("ipa", "timit"), optional="for classes of no alphabet"
        )
        self.label_smoothing = checks.number(self.key("label_smoothing"), label_smoothing, low=0, below=1)
        if keep_silence and QUIET not in self.categories:
            self.categories.append(QUIET)
        self.numbers = {category: number for number, category in enumerate(self.categories)}
        self.linear = nn.Linear(encoder.dim, len(self.categories))
        frames, segments = self._counted(encoder, data)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None, persistent=False)
        if class_weights is not None:
            members = frames if class_weights == "durations" else segments
            weights = np.divide(1, members, out=np.zeros(len(members)), where=members > 0)
            self.class_weights = torch.from_numpy(weights * (frames.sum() / (frames * weights).sum())).float()
        self.reset()

    def category(self, symbol: str) -> str | None:
        if symbol in self.silence:
            return QUIET if self.keep_silence else None
        return next(iter(self.classes.split(symbol)), None)

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        """Make (L, 3) int64 of the labelled frames: which frame, its class, and the number of its segment in the clip.

        Raises:
            InputError: intervals that do not run forward, or several categories of a clip.
        """
        if (carried := self.carried(labels)) is None:
            return None
        value, where = labels[str(self.label)], self.key("label")
        if isinstance(value, list) and all(isinstance(entry, list) for entry in value):
            rows = parse_intervals(value, f"{where}={self.label}")
            symbols = [row.symbol for row in rows]
            segments = _intervals_of(((row.onset, row.offset) for row in rows), frames, clock)
        elif len(carried) > 1:
            raise InputError(
                f"{where}={self.label}: a clip has {', '.join(sorted(carried))}, and a frame has one class"
            )
        else:
            symbols, segments = [*carried], np.zeros(frames, dtype=np.int64)
            if self.spread == "speech" and "phones" in labels:
                phones = parse_intervals(labels["phones"], "the label phones")
                loud = [(row.onset, row.offset) for row in phones if row.symbol not in self.silence]
                segments = np.minimum(_intervals_of(loud, frames, clock), 0)
        quiet = self.numbers[QUIET] if self.keep_silence else LEFT_OUT
        classes = [LEFT_OUT if (of := self.category(s)) is None else self.numbers.get(of, LEFT_OUT) for s in symbols]
        found = np.array([*classes, quiet])[segments]  # -1, in no interval, is the last
        gaps = segments < 0
        segments[gaps] = len(symbols) + np.cumsum(np.diff(gaps, prepend=False) & gaps)[gaps]
        places = np.flatnonzero(found != LEFT_OUT)
        return torch.from_numpy(np.stack([places, found[places], segments[places]], 1)) if len(places) else None

    def total(self, batch: Batch) -> float:
        """Count the labelled frames."""
        return float(self.own(batch).counts().sum())

    def readout(self) -> Readout:
        return self._readout("framewise", self.categories, self.linear)

    def predict(self, states: States, batch: Batch) -> Tensor:
        """Find the class of each labelled frame (N,), clip by clip."""
        return self._logits(states, batch)[0].argmax(-1)

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        """Sum over the labelled frames the weighted cross-entropy, and count those that are right."""
        logits, truth = self._logits(states, batch)
        losses = functional.cross_entropy(logits, truth, reduction="none", label_smoothing=self.label_smoothing)
        if self.class_weights is not None:
            losses = losses * self.class_weights[truth]
        return {"loss": losses.sum(), "accuracy": (logits.argmax(-1) == truth).sum()}

    def summary(self, sums: Mapping[str, Tensor], total: float) -> dict[str, Tensor]:
        return {"loss": sums["loss"] / total}  # the accuracy is a metric

    def reset(self) -> None:
        self._frames, self._segments = Confusion(len(self.categories)), Confusion(len(self.categories))

    def update(self, predicted: Tensor, batch: Batch) -> None:
        own, taken = self.own(batch), predicted.cpu().numpy()
        counts, values = own.counts().tolist(), own.values.cpu().numpy()
        for row, (count, end) in enumerate(zip(counts, np.cumsum(counts), strict=True)):
            truth, segment, found = values[row, :count, 1], values[row, :count, 2], taken[end - count : end]
            self._frames.add(speaker_of(batch, row), truth, found)
            self._segments.add(speaker_of(batch, row), *_majorities(truth, segment, found, len(self.categories)))

    def result(self) -> HeadResult:
        """Rate frames, and segments by the class that most of their frames are taken for."""
        frames, segments = self._frames.gathered(), self._segments.gathered()
        if not frames.total:
            return HeadResult()
        of_segments = segments.rows(self.categories, "segments")
        labels, groups, order = self.categories, [], list(range(len(self.categories)))
        if self.alphabet is not None:
            kinds = {category: broad_class(category, self.alphabet) for category in labels}
            labels = in_order(labels, kinds.__getitem__)
            groups, order = [kinds[label] for label in labels], [self.numbers[label] for label in labels]
        rows = [
            {**row, "segment_recall": other["recall"], "segments": other["segments"]}
            for row, other in zip(frames.rows(self.categories, "frames"), of_segments, strict=True)
        ]
        kept = f"silent frames are the class {QUIET}" if self.keep_silence else "silent frames are left out"
        return HeadResult(
            {
                **frames.metrics(),
                **{f"segment_{metric}": value for metric, value in segments.metrics().items()},
                "frames": frames.total,
                "segments": segments.total,
            },
            intervals={
                **frames.intervals(),
                **{f"segment_{metric}": interval for metric, interval in segments.intervals().items()},
            },
            over=frames.over,
            rows=rows,
            drawn="recall",
            labels=labels,
            groups=groups,
            confusion=frames.matrix[np.ix_(order, order)].tolist(),
            titles=TITLES,
            tables=self.layer_weights(),
            notes=[
                frames.compared_with_chance("frames"),
                segments.compared_with_chance("segments"),
                f"A segment has the class that most of its frames are taken for, of equally many the first; {kept}.",
            ],
        )

    def _logits(self, states: States, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute logits (N, C) of the labelled frames, and their classes (N,)."""
        own, hidden = self.own(batch), self.mixed(states)
        length = own.values.shape[1]
        # Where they lie is known on the CPU: nothing waits for the device.
        inside = (torch.arange(length) < own.counts()[:, None]).flatten().nonzero()[:, 0]
        inside = inside.to(hidden.device, non_blocking=True)
        frame, truth, _ = own.values.flatten(0, 1)[inside].unbind(1)
        return self.linear(hidden[inside // length, frame]).float(), truth

    def _counted(self, encoder: Encoder, data: ShardDataModule) -> tuple[Integers, Integers]:
        """Count the frames and segments of each class, (C,), in whole training clips, and warn of clips without any."""
        counts = np.zeros((2, len(self.categories)), dtype=np.int64)
        frames_in, clock = frames_of(encoder)
        unused: dict[str, list[str]] = defaultdict(list)
        for clip in data.labels():
            try:
                target = self.target(clip.labels, frames_in(clip.samples), clock)
            except InputError as error:
                raise InputError(f"{error} (the clip {clip.key} of {clip.corpus})") from error
            if target is None:
                reason = "no labelled frame" if self.label in clip.labels else "no such label"
                unused[clip.labels.get(UNTIMED, [reason])[0]].append(clip.key)
                continue
            _, truth, segment = target.numpy().T
            np.add.at(counts[0], truth, 1)
            np.add.at(counts[1], truth[np.unique(segment, return_index=True)[1]], 1)
        reasons = "; ".join(
            f"{reason}: {len(keys)}, such as {', '.join(keys[:SHOWN_KEYS])}" for reason, keys in sorted(unused.items())
        )
        if not counts.any():
            raise InputError(
                f"{self.key('label')}={self.label}: no training clip has a frame to learn from ({reasons})"
            )
        if unused:
            warnings.warn(f"the head {self.name!r} learns nothing of some training clips ({reasons})", stacklevel=2)
        return counts[0], counts[1]


def _intervals_of(bounds: Any, frames: int, clock: FrameClock) -> Integers:
    """Number the interval (onset s, offset s) that each frame lies in, (F,); -1: in none."""
    rows = [(onset, offset, str(number)) for number, (onset, offset) in enumerate(bounds)]
    return frame_labels(rows, frames, clock, {str(number): number for number in range(len(rows))}, ignore=-1)


def _majorities(truth: Integers, segment: Integers, taken: Integers, classes: int) -> tuple[Integers, Integers]:
    """Find the class of each segment, and the one that most of its frames are taken for."""
    _, first, number = np.unique(segment, return_index=True, return_inverse=True)
    votes = np.zeros((len(first), classes), dtype=np.int64)
    np.add.at(votes, (number, taken), 1)
    return truth[first], votes.argmax(1)
