"""Decide what a saliency map is of: an output of a trained head, for some frames of a file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from w2v_abx import audio
from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.points import column_of
from w2v_abx.heads.readout import Readout
from w2v_abx.items.frames import exact_frequency
from w2v_abx.items.items import FILE, OFFSET, ONSET, Items
from w2v_abx.models.encoder import Encoder

__all__ = ["Decision", "decisions", "score_of", "settled"]


@dataclass(frozen=True)
class Decision:
    """One output of a head for some frames of a file.

    Attributes:
        item: the item, alone.
        output: the number of the output; None: the one that the head decides for.
        at: s, the time of the only frame that counts; None: all frames of the item.
    """

    item: Items
    output: int | None
    at: float | None = None

    @property
    def file(self) -> str:
        return str(self.item.frame[FILE][0])

    @property
    def span(self) -> tuple[float, float]:
        """Onset and offset in seconds."""
        return float(self.item.frame[ONSET][0]), float(self.item.frame[OFFSET][0])

    def frames(self, encoder: Encoder, readout: Readout, total: int) -> slice:
        """Find the frames that count, of ``total``: all where the head decides on a clip."""
        if readout.kind in ("utterance", "multilabel"):
            return slice(0, total)
        if self.at is not None:
            frame = min(int(self.at * encoder.frequency + 1e-6), total - 1)
            return slice(frame, frame + 1)
        (start,), (stop,) = self.item.spans(exact_frequency(encoder.frequency))
        return slice(min(int(start), total - 1), min(max(int(stop), int(start) + 1), total))


def decisions(
    speech: Speech,
    readout: Readout,
    *,
    classes: Sequence[str] | None,
    file: str | None,
    time: float | None,
    seconds: float,
) -> Iterator[Decision]:
    """Yield the first item of each class, in the order of the head's outputs, in ``file``, or in all.

    Where there is a ``time``, or items do not have the head's label: the first item of each file, with ``classes``, its
    own, or the one that the head decides for. Files of more than ``seconds`` are passed over. See
    ``conf/analysis/saliency.yaml``.
    """
    items, column = speech.items, column_of(readout.label)
    outputs = {name: number for number, name in enumerate(readout.outputs) if name}

    @cache
    def taken(name: str) -> bool:
        return audio.info(speech.files[name])[0] <= seconds

    rows = [row for row, name in enumerate(items.frame[FILE]) if not file or name == file]
    labels = items.frame[column] if column in items.labels else None
    if time is None and labels is not None:
        for name in classes or outputs:
            fitting = (row for row in rows if labels[row] == name and taken(items.frame[FILE][row]))
            if (row := next(fitting, None)) is not None:
                yield Decision(_one(items, row), outputs[name])
        return
    if time is not None:
        rows = [row for row in rows if _lies_in(items, row, time)]
    seen: set[str] = set()
    for row in rows:
        name = items.frame[FILE][row]
        if name not in seen and taken(name):
            seen.add(name)
            own = outputs.get(labels[row]) if labels is not None else None
            for output in [outputs[label] for label in classes] if classes else [own]:
                yield Decision(_one(items, row), output, time)


def settled(decision: Decision, encoder: Encoder, readout: Readout, samples: Tensor) -> Decision:
    """Fill in the output that the head decides for, and, of CTC, the frame of the item at which it is surest."""
    if decision.output is not None and (readout.kind != "ctc" or decision.at is not None):
        return decision
    with torch.no_grad():
        scores = _log_probabilities(encoder, readout, samples[None])[0]
    if scores.ndim == 1:
        return replace(decision, output=int(scores.argmax()))
    frames = decision.frames(encoder, readout, len(scores))
    output = int(scores[frames].mean(0).argmax()) if decision.output is None else decision.output
    if readout.kind == "ctc" and decision.at is None:
        surest = frames.start + int(scores[frames, output].argmax())
        return replace(decision, output=output, at=(surest + 0.5) / encoder.frequency)
    return replace(decision, output=output)


def score_of(decision: Decision, encoder: Encoder, readout: Readout) -> Callable[[Tensor], Tensor]:
    """Make the function from samples (S, T) to the log-probability (S,) of the decision, the mean over its frames."""

    def score(samples: Tensor) -> Tensor:
        scores = _log_probabilities(encoder, readout, samples)
        if scores.ndim == 3:
            scores = scores[:, decision.frames(encoder, readout, scores.shape[1])].mean(1)
        return scores[:, decision.output]

    return score


def _log_probabilities(encoder: Encoder, readout: Readout, samples: Tensor) -> Tensor:
    """Compute those of all outputs, (S, F, C), or (S, C) of a head that decides on clips."""
    states = encoder(samples, torch.full((len(samples),), samples.shape[1]), readout.layers).layers
    clips = [dict(zip(readout.layers, layers, strict=True)) for layers in zip(*states, strict=True)]
    logits = torch.stack([readout(clip) for clip in clips])
    return functional.logsigmoid(logits) if readout.kind == "multilabel" else logits.log_softmax(-1)


def _one(items: Items, row: int) -> Items:
    return items.take(np.array([row]))


def _lies_in(items: Items, row: int, time: float) -> bool:
    return float(items.frame[ONSET][row]) <= time <= float(items.frame[OFFSET][row])
