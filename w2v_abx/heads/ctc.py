"""Transcribe clips: connectionist temporal classification of characters, phones or other symbols."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.alignment.ctc import fits
from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.batch import Batch
from w2v_abx.data.module import LabelledClip, ShardDataModule
from w2v_abx.distributed.collectives import gather
from w2v_abx.errors import InputError
from w2v_abx.heads.decoding import beam_search, collapse
from w2v_abx.heads.head import Head, HeadResult, States
from w2v_abx.heads.phonology import Alphabet
from w2v_abx.heads.readout import Readout
from w2v_abx.heads.recognition import rate
from w2v_abx.heads.scoring import Scoring, Transcribed
from w2v_abx.heads.vocabulary import BLANK, Vocabulary, is_timed, transcript
from w2v_abx.items.frames import FrameClock
from w2v_abx.items.labels import UNTIMED
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import checks

__all__ = ["Ctc"]

SPLITS = ("train", "valid", "test")
NAMED = 3  # clips, of those that are left out for one reason
EMPTY, TOO_LONG, UNKNOWN = "an empty transcript", "more symbols than frames", "symbols outside the vocabulary"
NO_LABEL = "no such label"


class Ctc(Head):
    """CTC (Graves et al., 2006) over frames, through one linear layer, with a blank beside the symbols.

    A clip's loss is divided by its number of symbols, and the head's loss is the mean over clips (torch's reduction
    ``mean``), so that long transcripts do not weigh more, nor more than what other heads ask. Transcripts are decoded
    greedily, and by prefix beam search where ``beam`` is given; no language model takes part.

    Args:
        label: the clips' label that is transcribed: a text, or symbols with or without times.
        units: a symbol is one of the "characters" of the label's text, or one of its "symbols" (see `transcript`).
        lower: in lower case.
        leave_out: symbols, such as sil, that are no part of transcripts.
        vocabulary: a file of symbols, see `Vocabulary.read`; None: those of the training clips.
        zero_infinity: a clip with more symbols than frames, or with symbols outside the vocabulary, adds nothing to the
            loss; False: an infinite loss, which stops training.
        beam: prefixes that the beam search keeps; None: greedy decoding alone.
        alphabet, fold, apart: see `Scoring`.
        options: see `Head`.

    Raises:
        InputError: settings out of range; no training clip has the label, or none can be learnt from; no split to
            validate on; a label that is no transcript; an untimed one of a clip that is to be cropped.
    """

    empty = "no clip carries its label, or all transcripts are empty"

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        name: str,
        label: str,
        units: Literal["characters", "symbols"] = "symbols",
        lower: bool = False,
        leave_out: Sequence[str] = (),
        vocabulary: str | None = None,
        zero_infinity: bool = True,
        beam: int | None = None,
        alphabet: Alphabet | None = None,
        fold: str | Mapping[str, str | None] | None = None,
        apart: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(encoder, data, name, label, **options)
        self.characters = checks.choice(self.key("units"), units, ("characters", "symbols")) == "characters"
        self.lower = checks.boolean(self.key("lower"), lower)
        self.left_out = frozenset(leave_out)
        self.zero_infinity = checks.boolean(self.key("zero_infinity"), zero_infinity)
        self.beam = checks.whole(self.key("beam"), beam, 1, optional="for greedy decoding alone")
        self.scoring = Scoring.of(self.key, self.characters, self.beam, alphabet, fold, apart)
        self.logged = self.scoring.logged  # type: ignore[misc]
        given = None if vocabulary is None else Vocabulary.read(self.key("vocabulary"), vocabulary)
        self.vocabulary = self._survey(encoder, data, given)
        if not data.has("valid"):
            data.manifest.of("valid")  # raises: there is nothing to rate the head on
        self.linear = nn.Linear(encoder.dim, 1 + len(self.vocabulary.symbols))
        self.reset()

    def _survey(self, encoder: Encoder, data: ShardDataModule, given: Vocabulary | None) -> Vocabulary:
        """Look at all transcripts; find and count the symbols, and say which clips are of no use."""
        symbols: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        usable: list[tuple[str, list[str], bool]] = []  # training clips, and whether their frames hold the symbols
        left_out: dict[tuple[str, str], list[str]] = defaultdict(list)
        lacking: dict[tuple[str, str], list[str]] = defaultdict(list)
        labels: set[str] = set()
        for split in (split for split in SPLITS if data.has(split)):
            for clip in data.labels(split):
                labels |= set(clip.labels) if split == "train" else set()
                if (found := self._of(clip, data, split)) is None:
                    lacking[split, clip.labels.get(UNTIMED, [NO_LABEL])[0]].append(clip.key)
                    continue
                if not found:
                    left_out[split, EMPTY].append(clip.key)
                symbols[split].update(found)
                if found and split == "train":
                    frames = int(encoder.frame_lengths(torch.tensor(clip.samples)))
                    usable.append((clip.key, found, fits(found, frames)))
        if not usable:
            why = "all transcripts are empty" if left_out else f"no training clip has it (labels: {_listed(labels)})"
            raise InputError(f"{self.key('label')}={self.label}: {why}; this head has nothing to learn")
        known = set(given.symbols if given else symbols["train"])
        unknown = " ".join(sorted(set(symbols["train"]) - known))
        for key, found, fitting in usable:
            if not known.issuperset(found):
                left_out["train", f"{UNKNOWN} ({unknown})"].append(key)
            elif not fitting:
                left_out["train", TOO_LONG].append(key)
        self._say({**left_out, **lacking})
        useless = sum(len(keys) for (split, why), keys in left_out.items() if split == "train" and why != EMPTY)
        if useless == len(usable):
            raise InputError(
                f"{self.key('label')}={self.label}: this head can learn from no training clip: {_reasons(left_out)}"
                + (f"; {self.key('vocabulary')} must list their symbols, or be null" if given else "")
            )
        base = given or Vocabulary(tuple(sorted(known)))
        everywhere = {symbol for found in symbols.values() for symbol in found}
        self.trained = symbols["train"]
        return replace(base, unseen=tuple(sorted(everywhere - known)))

    def _of(self, clip: LabelledClip, data: ShardDataModule, split: str) -> list[str] | None:
        """Take a clip's transcript, None where it has no such label.

        Raises:
            InputError: it is no transcript, or a crop would cut an untimed one.
        """
        label = clip.labels.get(str(self.label))
        if label is None:
            return None
        found = self._symbols(label)
        if found is None:
            raise InputError(
                f"{self.key('label')}={self.label}: the clip {clip.key} of {clip.corpus} has {label!r}, which is "
                "neither a text nor a list of symbols"
            )
        crop = data.folders[clip.corpus].crop_seconds if split == "train" else data.settings.eval_crop_seconds
        if crop is not None and clip.samples > round(crop * SAMPLE_RATE) and not is_timed(label):
            setting = "crop_seconds" if split == "train" else "eval_crop_seconds"
            raise InputError(
                f"data.{setting}={crop:g}: the clip {clip.key} of {clip.corpus} has {clip.samples / SAMPLE_RATE:g} s, "
                f"and its {self.label} has no times by which it could be cut: set data.{setting}=null"
            )
        return found

    def _symbols(self, label: Any) -> list[str] | None:
        found = transcript(label, self.characters, self.lower)
        return found and [symbol for symbol in found if symbol not in self.left_out]

    def _say(self, left_out: Mapping[tuple[str, str], Sequence[str]]) -> None:
        if left_out:
            warnings.warn(f"the head {self.name!r} leaves out {_reasons(left_out)}", stacklevel=3)

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        """Make the numbers of the symbols, (L,) int64; None also for an empty transcript."""
        found = self._symbols(labels.get(str(self.label)))
        return torch.tensor(self.vocabulary.numbers(found)) if found else None

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        """Note how many frames each clip has, on the CPU, where the loss wants to know."""
        return batch.with_extra(**{self.name: encoder.frame_lengths(batch.lengths).tolist()})

    def _log_probabilities(self, states: States) -> Tensor:
        """Compute log-probabilities (B, F, C) in float32."""
        logits: Tensor = self.linear(self.mixed(states))
        return logits.float().log_softmax(-1)

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        """Sum over the clips the CTC loss per symbol, in nats."""
        target, outputs = self.own(batch), len(self.vocabulary.symbols)
        counts = target.counts()
        losses = functional.ctc_loss(
            self._log_probabilities(states).transpose(0, 1),
            target.values.clamp(1, outputs),
            torch.tensor(batch.extra[self.name]),
            counts,
            blank=BLANK,
            reduction="none",
            zero_infinity=self.zero_infinity,
        )
        unknown = (target.values > outputs).any(1)
        losses = losses.masked_fill(unknown, 0.0 if self.zero_infinity else torch.inf)
        return {"loss": (losses / counts.to(losses.device, non_blocking=True)).sum()}

    def readout(self) -> Readout:
        return self._readout("ctc", ["", *self.vocabulary.symbols], self.linear)

    def predict(self, states: States, batch: Batch) -> list[dict[str, list[int]]]:
        """Decode the clips: the symbols' numbers by the way of decoding."""
        scores = self._log_probabilities(states)
        paths, found = scores.argmax(-1).tolist(), []
        tables = scores.cpu().numpy() if self.beam else None
        for row, frames in enumerate(batch.extra[self.name]):
            decoded = {"greedy": collapse(paths[row][:frames])}
            if tables is not None:
                decoded["beam"] = beam_search(tables[row, :frames], self.beam)
            found.append(decoded)
        return found

    def reset(self) -> None:
        self._transcribed: list[Transcribed] = []

    def update(self, predicted: list[dict[str, list[int]]], batch: Batch) -> None:
        target = self.own(batch)
        references = zip(target.values.tolist(), target.counts().tolist(), strict=True)
        for key, corpus, speaker, (values, count), decoded in zip(
            batch.keys, batch.corpora, batch.speakers, references, predicted, strict=True
        ):
            hypotheses = {way: self.vocabulary.symbols_of(numbers) for way, numbers in decoded.items()}
            reference = self.vocabulary.symbols_of(values[:count])
            self._transcribed.append(Transcribed(key, corpus, speaker, reference, hypotheses))

    def result(self) -> HeadResult:
        """Compute error rates and what is confused with what: see `rate`."""
        everyones = [Transcribed(*row) for rows in gather(self._transcribed) for row in rows]
        if not everyones:
            return HeadResult()
        result = rate(everyones, self.scoring, self.vocabulary, self.trained)
        return replace(result, tables=[*result.tables, *self.layer_weights()])


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _reasons(left_out: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """Count the clips by split and reason, and name the first."""
    return "; ".join(
        f"{len(keys)} clips of {split} with {why} ({', '.join(keys[:NAMED])}{' …' if len(keys) > NAMED else ''})"
        for (split, why), keys in left_out.items()
    )
