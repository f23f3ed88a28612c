"""Show what spans of time and bands of an utterance a head's decisions rest on, before and after training."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
import polars as pl
import torch
from scipy.stats import spearmanr
from torch import Tensor

from w2v_abx import audio
from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.attribution.attention import attention, roll_out
from w2v_abx.analysis.attribution.decisions import Decision, decisions, score_of, settled
from w2v_abx.analysis.attribution.gradients import integrated_gradients, without_normalization
from w2v_abx.analysis.attribution.spectrum import HOP, bands, levels, spread
from w2v_abx.analysis.points import column_of
from w2v_abx.errors import InputError
from w2v_abx.heads.readout import Readout
from w2v_abx.items.items import FILE, Items
from w2v_abx.models.convolutions import normalize
from w2v_abx.models.encoder import Encoder
from w2v_abx.statistics.cells import Floats
from w2v_abx.system import checks

__all__ = ["Saliency"]

RANDOM = ("head", "head and blocks", "all weights")  # what is random, step by step


class Explained(NamedTuple):
    """A decision, attributed.

    Attributes:
        bands: (frames, bands) what each adds to the log-probability, every 10 ms.
        rolled: (F,) how much of the attention of the frames that count reaches each frame; it sums to one.
        start, end: log-probability of the noises, their mean, and of the utterance.
        gap: how far the attributions are from summing to the difference; the largest of all noises.
    """

    bands: Floats
    rolled: Floats
    start: float
    end: float
    gap: float


@dataclass(frozen=True)
class Saliency:
    """Attribute decisions to the sound; see ``conf/analysis/saliency.yaml`` for the settings.

    The untrained model has no head: that of a trained one is read on it, so that one and the same question is put to
    both. Its map shows where the evidence that the head looks for lies in the untrained features, not a decision of
    that model.

    Gradients are integrated from white noise that is as loud as the utterance. From silence they cannot be: encoders
    normalise over an utterance, so that it is the same to them at any loudness, and all change lies in a jump at zero.
    """

    layers: ClassVar[Sequence[int]] = (0,)  # stored features are not read; a store has one layer at least

    run: str | None = None
    head: str | None = None
    classes: Sequence[str] | None = None
    file: str | None = None
    time: float | None = None
    decisions: int = 3
    seconds: float = 6.0
    steps: int = 24
    baselines: int = 2

    def __post_init__(self) -> None:
        checks.number("analysis.saliency.time", self.time, low=0, unit="seconds", optional="for an item's frames")
        if self.time is not None and self.file is None:
            raise InputError(f"analysis.saliency.time={self.time:g} needs analysis.saliency.file: of which file is it?")
        checks.whole("analysis.saliency.decisions", self.decisions, 1)
        checks.number("analysis.saliency.seconds", self.seconds, above=0, unit="seconds")
        checks.whole("analysis.saliency.steps", self.steps, 1)
        checks.whole("analysis.saliency.baselines", self.baselines, 1)

    def check(self, items: Items, models: Sequence[str]) -> None:
        checks.choice("analysis.saliency.run", self.run, models, optional="for the first with a head")
        if self.file is not None and self.file not in items.frame[FILE]:
            raise InputError(
                f"analysis.saliency.file={self.file!r}: no item is of that file; the first is of "
                f"{items.frame[FILE][0]!r}"
            )

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        owner, head = self._head(models)
        readout = models[owner].readouts[head]
        chosen = self._decisions(speech, models[owner], readout)
        tables: dict[str, list[pl.DataFrame]] = {name: [] for name in ("decisions", "bands", "frames", "sanity")}
        left_out: list[str] = []
        for name, model in models.items():
            own = model.readouts.get(head) if self.run is None else None
            encoder = model.load()
            if reason := _unfit(model, encoder, own or readout):
                left_out.append(f"{name} is left out: {reason}.")
                continue
            assert isinstance(encoder, Encoder)
            encoder.requires_grad_(False)
            for number, (decision, samples) in enumerate(chosen):
                explained = self._explain(encoder, own or readout, decision, samples, seed)
                key = {"decision": number, "model": name}
                tables["decisions"].append(_row(key, decision, readout, name if own else owner, explained, samples))
                tables["bands"].append(_bands(key, explained, samples))
                tables["frames"].append(_frames(key, explained, encoder.frequency))
                if name == owner:
                    for what, other, reader in _random(encoder, readout, seed):
                        again = self._explain(other, reader, decision, samples, seed)
                        tables["sanity"].append(_compared(key | {"random": what}, explained, again))
        facts = {"head": head, "of": owner, "kind": readout.kind, "steps": self.steps, "baselines": self.baselines}
        edges = pl.DataFrame({"low": bands()[:-1], "high": bands()[1:]}).with_row_index("band")
        found = {name: pl.concat(parts) for name, parts in tables.items()} | {"edges": edges}
        return AnalysisResult(facts, found, [*self._notes(owner, head, readout, speech), *left_out])

    def _head(self, models: Mapping[str, Model]) -> tuple[str, str]:
        """Choose the model and its head. Raises InputError where there is none."""
        with_heads = [name for name, model in models.items() if model.readouts]
        if not with_heads:
            raise InputError(
                f"analysis.saliency needs a trained head, and none of {', '.join(models)} has one: heads of category, "
                "framewise and CTC training are in the folder heads of a run"
            )
        owner = checks.choice("analysis.saliency.run", self.run or with_heads[0], with_heads)
        heads = list(models[owner].readouts)
        return owner, checks.choice("analysis.saliency.head", self.head or heads[0], heads)

    def _decisions(self, speech: Speech, model: Model, readout: Readout) -> list[tuple[Decision, Tensor]]:
        """Choose the decisions, and load the samples (T,) of their files. Raises InputError where there are none."""
        if self.classes is not None:
            checks.several("analysis.saliency.classes", self.classes, [name for name in readout.outputs if name])
        asked = decisions(speech, readout, classes=self.classes, file=self.file, time=self.time, seconds=self.seconds)
        encoder, chosen = model.load(), []
        assert isinstance(encoder, Encoder)
        for decision in islice(asked, self.decisions):
            samples = torch.from_numpy(audio.load(speech.files[decision.file]))
            chosen.append((settled(decision, encoder, readout, samples), samples))
        if not chosen:
            limit = f"of at most analysis.saliency.seconds={self.seconds:g}"
            where = f"{self.file}, {limit}," if self.file else f"a file {limit}"
            at = "" if self.time is None else f" at {self.time:g} s"
            classes = "" if self.classes is None else f" that is {' or '.join(self.classes)}"
            raise InputError(f"analysis.saliency: there is no item of {where}{at}{classes} to decide on")
        return chosen

    def _explain(self, encoder: Encoder, readout: Readout, decision: Decision, samples: Tensor, seed: int) -> Explained:
        given = normalize(samples[None], torch.tensor([len(samples)]))[0] if encoder.normalized else samples
        drawn = torch.Generator().manual_seed(seed)
        noises = given.std() * torch.randn(self.baselines, len(given), generator=drawn)
        with without_normalization(encoder):
            score = score_of(decision, encoder, readout)
            paths = [integrated_gradients(score, noise, given, self.steps) for noise in noises]
            rolled = roll_out(attention(encoder, given))
        frames = decision.frames(encoder, readout, len(rolled[0]))
        reached = readout.shares.double() @ torch.stack([rolled[layer][frames].mean(0) for layer in readout.layers])
        start, gap = float(np.mean([path.start for path in paths])), max(path.gap for path in paths)
        maps = torch.stack([spread(path) for path in paths]).mean(0)
        return Explained(maps.numpy(), reached.numpy(), start, paths[0].end, gap)

    def _notes(self, owner: str, head: str, readout: Readout, speech: Speech) -> list[str]:
        notes = [
            f"Integrated gradients of the log-probability of the decision, from {self.baselines} white noises as loud "
            f"as the utterance, {self.steps} steps each.",
            f"Models without a head of their own are read by the head {head} of {owner}: where the evidence that it "
            "looks for lies in them, not what they would decide.",
            "Attention roll-out is of the frames that count, whatever is decided there. A frame that enters the first "
            "block has already seen its neighbours, through the convolution for positions.",
        ]
        column = column_of(readout.label)
        if column not in speech.items.labels and self.classes is None:
            notes.append(f"Items have no column {column}: a decision is what the head of {owner} decides for.")
        return notes


def _unfit(model: Model, encoder: Any, readout: Readout) -> str:
    """Say why a model cannot be asked; empty: it can."""
    if not isinstance(encoder, Encoder):
        return "it has no weights, no attention and no head"
    if model.baseline:
        return "no head was trained on it; the check with random weights takes its place"
    if readout.weight.shape[1] != encoder.dim or max(readout.layers) >= encoder.n_layers:
        return "the head does not fit its layers"
    return ""


def _random(encoder: Encoder, readout: Readout, seed: int) -> Iterator[tuple[str, Encoder, Readout]]:
    """Make a model random from its top down (Adebayo et al., 2018, "Sanity checks for saliency maps")."""
    drawn = torch.randn(readout.weight.shape, generator=torch.Generator().manual_seed(seed))
    reader = replace(readout, weight=drawn * readout.weight.std())
    yield RANDOM[0], encoder, reader
    yield RANDOM[1], _randomized(encoder, seed, blocks_only=True), reader
    yield RANDOM[2], _randomized(encoder, seed, blocks_only=False), reader


def _randomized(encoder: Encoder, seed: int, *, blocks_only: bool) -> Encoder:
    """Copy an encoder with random weights in its transformer blocks, or everywhere."""
    drawn = Encoder.random(encoder.model.config.to_dict(), seed).model.state_dict()
    copied = deepcopy(encoder)
    chosen = {name: value for name, value in drawn.items() if name.startswith("encoder.layers.") or not blocks_only}
    copied.model.load_state_dict(chosen, strict=False)
    return copied


def _row(
    key: Mapping[str, Any], decision: Decision, readout: Readout, reader: str, explained: Explained, samples: Tensor
) -> pl.DataFrame:
    onset, offset = decision.span
    loudness = spearmanr(np.abs(explained.bands).ravel(), levels(samples).numpy().ravel()).statistic
    return pl.DataFrame(
        {
            **key, "reader": reader, "file": decision.file, "onset": onset, "offset": offset, "at": decision.at,
            "class": readout.outputs[decision.output or 0], "start": explained.start, "end": explained.end,
            "gap": explained.gap, "loudness": float(loudness),
        },
        schema_overrides={"at": pl.Float64},
    )  # fmt: skip


def _bands(key: Mapping[str, Any], explained: Explained, samples: Tensor) -> pl.DataFrame:
    frames, number = explained.bands.shape
    return pl.DataFrame(
        {
            "time": np.repeat(np.arange(frames) * HOP / audio.SAMPLE_RATE, number),
            "band": np.tile(np.arange(number), frames),
            "value": explained.bands.ravel(),
            "level": levels(samples).numpy().ravel(),
        }
    ).select(*_constants(key), "*")


def _frames(key: Mapping[str, Any], explained: Explained, frequency: float) -> pl.DataFrame:
    times = (np.arange(len(explained.rolled)) + 0.5) / frequency
    return pl.DataFrame({"time": times, "attention": explained.rolled}).select(*_constants(key), "*")


def _compared(key: Mapping[str, Any], before: Explained, after: Explained) -> pl.DataFrame:
    """Compute Spearman's rank correlation of two maps, as they are and without sign, and of two roll-outs."""

    def correlation(one: Floats, other: Floats) -> float:
        return float(spearmanr(one.ravel(), other.ravel()).statistic)

    signed = correlation(before.bands, after.bands)
    unsigned = correlation(np.abs(before.bands), np.abs(after.bands))
    return pl.DataFrame(
        {**key, "signed": signed, "unsigned": unsigned, "attention": correlation(before.rolled, after.rolled)}
    )


def _constants(key: Mapping[str, Any]) -> list[pl.Expr]:
    return [pl.lit(value).alias(name) for name, value in key.items()]
