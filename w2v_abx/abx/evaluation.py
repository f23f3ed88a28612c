"""The ABX evaluation loop: features of every file in one pass, then a score per layer and condition."""

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from w2v_abx import audio
from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.scoring import Scores
from w2v_abx.abx.setting import AbxSetting, Extractor, scorers
from w2v_abx.abx.speech import Speech
from w2v_abx.errors import InputError

__all__ = ["evaluate"]


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
