"""The ABX evaluation loop: features of every file in one pass, then a score per layer and condition."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from rich.progress import MofNCompleteColumn
from torch import Tensor, nn

from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.scoring import Scorer, Scores
from w2v_abx.abx.setting import AbxSetting, scorers
from w2v_abx.abx.speech import Speech
from w2v_abx.distributed.ranks import DistributedRanks
from w2v_abx.errors import InputError
from w2v_abx.features.batches import SpeechBatches
from w2v_abx.features.extractor import Extractor
from w2v_abx.features.kept import Kept, KeptFeatures, NeededFrames, Room, exchange, keep_layers
from w2v_abx.features.parts import Parts
from w2v_abx.system.progress import WorkProgress

__all__ = ["evaluate", "extract", "modes_kept", "score_layers"]


class Extraction(lightning.LightningModule):
    """One pass over some files; keeps the features of the asked layers, of the files that this rank was given.

    No step waits for another rank, so ranks may have different numbers of batches. Where there are several, one that
    fails keeps its ``error``, takes no more batches and comes to the end like the others, which would otherwise wait
    for it.
    """

    def __init__(
        self,
        extractor: Extractor,
        files: Mapping[str, Path],
        layers: Sequence[int],
        batch_seconds: float,
        needed: NeededFrames | None,
        parts: Parts,
    ) -> None:
        super().__init__()
        self.extractor = extractor  # registered as a submodule where it is one, and so moved to the device
        self.files, self.layers, self.batch_seconds = files, list(layers), batch_seconds
        self.needed, self.room, self.parts = needed, Room(), parts
        self.kept: dict[int, dict[str, Kept]] = {layer: {} for layer in layers}
        self.error: Exception | None = None

    def test_dataloader(self) -> SpeechBatches:
        rank, size = self.trainer.global_rank, self.trainer.world_size
        try:
            return SpeechBatches(self.files, self.batch_seconds, rank, size)
        except Exception as error:
            self._fail(error)
            return SpeechBatches({}, self.batch_seconds)

    def test_step(self, batch: dict[str, Any], batch_index: int) -> None:
        if self.error is not None:
            return
        try:
            if "error" in batch:
                raise batch["error"]
            self.extract(batch)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.trainer.world_size == 1:
            raise error
        self.error = error

    def extract(self, batch: dict[str, Any]) -> None:
        """Add the features of one batch."""
        if not batch["keys"]:
            return
        for keys, hidden, lengths in self.parts.extract(self.extractor, batch, self.layers):
            with torch.inference_mode(False):  # else the features could not be changed in place by those who get them
                self.keep(keys, hidden, lengths)

    def keep(self, keys: Sequence[str], hidden: Sequence[Tensor], lengths: Tensor) -> None:
        """Add the features of the files ``keys``: of each layer, (B, F, D)."""
        if self.needed is not None:
            keep_layers(self.kept, self.needed, self.room, keys, hidden, lengths)
            return
        counts = lengths.tolist()
        for layer, features in zip(self.layers, hidden, strict=True):
            for key, row, count in zip(keys, features, counts, strict=True):
                self.kept[layer][key] = Kept(count, self.room.place(row[:count].detach().clone()))


def extract(
    extractor: Extractor,
    files: Mapping[str, Path],
    layers: Sequence[int],
    batch_seconds: float,
    trainer: lightning.Trainer,
) -> dict[int, dict[str, Tensor]]:
    """The features of ``files`` in one pass over the audio: for each layer, a (T, D) tensor for each file.

    They have the type that the model gave them and stay on its device while there is room for them. Distributed, each
    file is read by one rank, and every rank returns all.

    Args:
        batch_seconds: padded audio per batch.
        trainer: runs the loop, on its device and in its precision.

    Raises:
        InputError: a file that cannot be read; a strategy that starts processes by spawning or forking.
    """
    kept, ranks = _extract(extractor, files, layers, batch_seconds, trainer, None)
    return {
        layer: {key: frames for key, (_, frames) in _gather(kept.pop(layer), ranks).items()} for layer in list(kept)
    }


def evaluate(
    model: str, extractor: Extractor, speech: Speech, setting: AbxSetting, trainer: lightning.Trainer
) -> AbxResult:
    """Score every asked layer of ``extractor`` on ``speech``.

    Distributed, each file is read by one rank and each cell scored by one; every rank returns the whole result, which
    is that of one process. Only rank 0 should write it.

    Args:
        model: what the model is called in tables.
        trainer: runs the loop, on its device and in its precision.

    Raises:
        InputError: a layer that the extractor does not have; a strategy that starts processes by spawning or forking;
            whatever `score` and `audio.load` raise.
    """
    layers = setting.layers_of(extractor)
    conditions = scorers(speech.items, setting, extractor.frequency)  # before any work: the task may not fit
    needed = NeededFrames(speech.items, extractor.frequency)
    files = {name: path for name, path in speech.files.items() if name in needed.number}
    kept, ranks = _extract(extractor, files, layers, setting.batch_seconds, trainer, needed)
    shown = trainer.progress_bar_callback is not None and trainer.is_global_zero
    scores = score_layers(conditions, needed, kept, ranks, shown=shown)
    return AbxResult(model, setting, extractor.frequency, scores)


def score_layers(
    conditions: Mapping[str, Scorer],
    needed: NeededFrames,
    kept: dict[int, dict[str, Kept]],
    ranks: DistributedRanks | None,
    *,
    shown: bool = False,
    look: Callable[[int, KeptFeatures], None] | None = None,
) -> dict[tuple[int, str], Scores]:
    """Score each layer in each condition. ``kept`` is emptied, layer by layer: no more than one is held twice.

    With several ranks, each comes with what it has kept. ``shown``: show a progress bar. ``look``: is called with each
    layer, once that is scored, and all its features.
    """
    scores: dict[tuple[int, str], Scores] = {}
    options = {} if ranks is None else {"ranks": ranks}
    with WorkProgress("scoring", MofNCompleteColumn(), total=len(kept) * len(conditions), shown=shown) as progress:
        for layer in list(kept):
            features = KeptFeatures(needed, _gather(kept.pop(layer), ranks))
            for condition, scorer in conditions.items():
                progress.update(len(scores), description=f"scoring layer {layer}, {condition} speaker")
                scores[layer, condition] = scorer(features, **options)
            if look is not None:
                look(layer, features)
    return scores


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Put every submodule back into the mode, of training or not, that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _extract(
    extractor: Extractor,
    files: Mapping[str, Path],
    layers: Sequence[int],
    batch_seconds: float,
    trainer: lightning.Trainer,
    needed: NeededFrames | None,
) -> tuple[dict[int, dict[str, Kept]], DistributedRanks | None]:
    """What this rank extracts, and the ranks where there are several."""
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise InputError(
            "ABX cannot bring features back from processes that a strategy spawns or forks; "
            "set trainer.strategy=ddp or trainer.devices=1"
        )
    with Parts.of_this_process() as parts:
        loop = Extraction(extractor, files, layers, batch_seconds, needed, parts)
        with modes_kept(loop):
            trainer.test(loop, verbose=False)
    if trainer.world_size == 1:
        return loop.kept, None
    ranks = DistributedRanks()
    ranks.agree(loop.error)
    return loop.kept, ranks


def _gather(kept: dict[str, Kept], ranks: DistributedRanks | None) -> dict[str, Kept]:
    return kept if ranks is None else exchange(kept, ranks.gather)
