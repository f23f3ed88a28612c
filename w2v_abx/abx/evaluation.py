"""The ABX evaluation loop: features of every file in one pass, then a score per layer and condition."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import lightning
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from w2v_abx import atomic, audio
from w2v_abx.abx.items import Items
from w2v_abx.abx.scoring import Scorer, Scores
from w2v_abx.abx.speech import Speech
from w2v_abx.abx.task import Task
from w2v_abx.configuration import require_choice
from w2v_abx.encoder import Features
from w2v_abx.errors import InputError

__all__ = ["AbxResult", "AbxSetting", "Extractor", "evaluate", "scorers"]


class Extractor(Protocol):
    """Whatever turns waveforms into features of one layer or more: an `Encoder`, an `Mfcc`."""

    n_layers: int
    frequency: float

    def __call__(self, waveforms: Tensor, lengths: Tensor, layers: Sequence[int] | None = None) -> Features: ...


@dataclass(frozen=True)
class AbxSetting:
    """What is asked of the speech: the part of the ``abx`` config that is not the data.

    Args:
        speaker: "within", "across" or both; each is one condition with its own score.
        context: "within" (same neighbours) or "any".
        on: the label told apart.
        distance: of two frames; see `score`.
        layers: the layers to score; ``None`` scores all.
        max_size_group: cap on the items of A, B and X in a cell.
        max_x_across: cap on the speakers of X per A and B.
        batch_seconds: padded audio per batch of the extraction.
        seed: of the caps and of the sampled delta values.
    """

    speaker: Sequence[str] = ("within", "across")
    context: str = "within"
    on: str = "#phone"
    distance: str = "angular"
    layers: Sequence[int] | int | None = None
    max_size_group: int | None = None
    max_x_across: int | None = None
    batch_seconds: float = 60.0
    seed: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any], seed: int) -> "AbxSetting":
        """The setting in an ``abx`` config, which also says what the speech is."""
        return cls(seed=seed, **{field.name: config[field.name] for field in fields(cls) if field.name in config})

    def __post_init__(self) -> None:
        if isinstance(self.speaker, str):
            object.__setattr__(self, "speaker", (self.speaker,))
        if isinstance(self.layers, int):
            object.__setattr__(self, "layers", (self.layers,))
        if not self.speaker:
            raise InputError("abx.speaker is empty; give within, across or [within, across]")
        for speaker in self.speaker:
            require_choice("abx.speaker", speaker, ("within", "across"))
        require_choice("abx.context", self.context, ("within", "any"))
        if self.batch_seconds <= 0:
            raise InputError(f"abx.batch_seconds={self.batch_seconds} must be above 0")

    def layers_of(self, extractor: Extractor) -> list[int]:
        """The layers to score of a model. Raises InputError for one that it does not have."""
        layers = list(range(extractor.n_layers) if self.layers is None else self.layers)  # type: ignore[arg-type]
        for layer in layers:
            require_choice("abx.layers", layer, range(extractor.n_layers))
        return layers

    def tasks(self) -> dict[str, Task]:
        """The task of each condition."""
        return {speaker: Task.preset(speaker=speaker, context=self.context, on=self.on) for speaker in self.speaker}


@dataclass(frozen=True)
class AbxResult:
    """Scores of one model by layer and condition."""

    model: str
    setting: AbxSetting
    frequency: float
    scores: Mapping[tuple[int, str], Scores]

    @property
    def cells(self) -> pl.DataFrame:
        """All cells, with the columns ``layer`` and ``condition`` in front."""
        return pl.concat(
            [
                scores.cells.select(pl.lit(layer).alias("layer"), pl.lit(condition).alias("condition"), pl.all())
                for (layer, condition), scores in self.scores.items()
            ],
            how="diagonal",
        )

    def summary(self, tag: str) -> dict[str, Any]:
        """What `summary.json` holds: one row per layer and condition."""
        return {
            "tag": tag,
            "model": self.model,
            "frequency": self.frequency,
            "distance": self.setting.distance,
            "on": self.setting.on,
            "context": self.setting.context,
            "scores": [
                {
                    "layer": layer,
                    "condition": condition,
                    "error": scores.error(),
                    "cells": scores.cells.height,
                    "triplets": scores.triplets,
                    "skipped_items": scores.skipped.height,
                    "clipped_items": scores.clipped,
                    "delta": asdict(scores.delta),
                }
                for (layer, condition), scores in self.scores.items()
            ],
        }

    def save(self, folder: Path, tag: str) -> None:
        """Write ``cells.parquet``, ``summary.json`` and, if items had no frame, ``skipped.csv`` to ``folder/tag``."""
        atomic.write(folder / tag / "cells.parquet", self.cells.write_parquet)
        atomic.write_json(folder / tag / "summary.json", self.summary(tag))
        skipped = pl.concat([scores.skipped for scores in self.scores.values()]).unique(maintain_order=True)
        if skipped.height:
            atomic.write(folder / tag / "skipped.csv", skipped.write_csv)


def scorers(items: Items, setting: AbxSetting, frequency: float) -> dict[str, Scorer]:
    """What scores one layer after another in each condition of ``setting``."""
    return {
        condition: Scorer(
            items,
            task,
            frequency=frequency,
            distance=setting.distance,
            max_size_group=setting.max_size_group,
            max_x_across=setting.max_x_across,
            seed=setting.seed,
        )
        for condition, task in setting.tasks().items()
    }


class SpeechBatches(Dataset[dict[str, Any]]):
    """Batches of whole files of like length, at most ``batch_seconds`` of padded audio each."""

    def __init__(self, speech: Speech, batch_seconds: float) -> None:
        self.speech = speech
        seconds = {key: audio.info(path)[0] for key, path in speech.files.items()}
        self.batches: list[list[str]] = []
        for key in sorted(seconds, key=lambda key: (-seconds[key], key)):
            longest = seconds[self.batches[-1][0]] if self.batches else 0.0
            if self.batches and longest * (len(self.batches[-1]) + 1) <= batch_seconds:
                self.batches[-1].append(key)
            else:
                self.batches.append([key])

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        keys = self.batches[index]
        waveforms = [torch.from_numpy(audio.load(self.speech.files[key])) for key in keys]
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        return {"keys": keys, "waveforms": pad_sequence(waveforms, batch_first=True), "lengths": lengths}


class AbxEvaluation(lightning.LightningModule):
    """Keeps each file's features of the asked layers, and scores them when the pass over the audio ends."""

    def __init__(self, extractor: Extractor, speech: Speech, setting: AbxSetting, layers: Sequence[int]) -> None:
        super().__init__()
        self.extractor = extractor  # registered as a submodule where it is one, and so moved to the device
        self.scorers = scorers(speech.items, setting, extractor.frequency)  # before any work: the task may not fit
        self.layers = list(layers)
        self.features: dict[int, dict[str, Tensor]] = {layer: {} for layer in self.layers}
        self.scores: dict[tuple[int, str], Scores] = {}

    def test_step(self, batch: dict[str, Any], batch_index: int) -> None:
        hidden, lengths = self.extractor(batch["waveforms"], batch["lengths"], self.layers)
        for layer, frames in zip(self.layers, hidden, strict=True):
            for key, feature, length in zip(batch["keys"], frames.float().cpu(), lengths.tolist(), strict=True):
                self.features[layer][key] = feature[:length]

    def on_test_epoch_end(self) -> None:
        for condition, scorer in self.scorers.items():
            for layer, features in self.features.items():
                self.scores[layer, condition] = scorer(features)
        self.features = {}


def evaluate(
    model: str, extractor: Extractor, speech: Speech, setting: AbxSetting, trainer: lightning.Trainer
) -> AbxResult:
    """Score every asked layer of ``extractor`` on ``speech``.

    Args:
        model: what the model is called in tables.
        trainer: runs the loop, on its device and in its precision.

    Raises:
        InputError: a layer that the extractor does not have; whatever `score` and `audio.load` raise.
    """
    if trainer.world_size > 1:
        raise InputError(f"ABX is scored in one process, not {trainer.world_size}; set trainer.devices=1")
    layers = setting.layers_of(extractor)
    training = isinstance(extractor, nn.Module) and extractor.training
    loop = AbxEvaluation(extractor, speech, setting, layers)
    loader = DataLoader(SpeechBatches(speech, setting.batch_seconds), batch_size=None)
    trainer.test(loop, loader, verbose=False)
    if isinstance(extractor, nn.Module):
        extractor.train(training)
    return AbxResult(model, setting, extractor.frequency, loop.scores)
