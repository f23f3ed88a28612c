"""The ABX evaluation loop: features of every file in one pass, then a score per layer and condition."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
from rich.progress import MofNCompleteColumn

from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.scoring import Scorer, Scores
from w2v_abx.abx.setting import AbxSetting, scorers
from w2v_abx.abx.speech import Speech
from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.features.extraction import extract, extract_in_memory
from w2v_abx.features.memory import LayerFeatures, NeededFrames, gathered
from w2v_abx.features.store import ITEM_FILE
from w2v_abx.models.extractor import Extractor
from w2v_abx.system.progress import WorkProgress

__all__ = ["evaluate", "score_layers"]


def evaluate(
    model: str,
    extractor: Extractor,
    speech: Speech,
    setting: AbxSetting,
    trainer: lightning.Trainer,
    folder: Path | None = None,
    dtype: str = "float32",
) -> AbxResult:
    """Score every asked layer of ``extractor`` on ``speech``.

    Distributed, each file is read by one rank and each cell scored by one; every rank returns the whole result, which
    is that of one process. Only rank 0 should write it.

    Args:
        model: what the model is called in tables.
        trainer: runs the loop, on its device and in its precision.
        folder: where all features are stored, as ``dtype``, and scored from layer by layer, see
            `w2v_abx.features.extraction.extract`; None: the frames that items need are in memory until they are scored.

    Raises:
        InputError: a layer that the extractor does not have; a strategy that starts processes by spawning or forking;
            whatever `score`, `audio.load` and, with a ``folder``, `extract` raise.
    """
    layers = setting.layers_of(extractor)
    conditions = scorers(speech.items, setting, extractor.frequency)  # before any work: the task may not fit
    needed = NeededFrames(speech.items, extractor.frequency)
    files = {name: path for name, path in speech.files.items() if name in needed.number}
    shown = trainer.progress_bar_callback is not None and trainer.is_global_zero
    if folder is None:
        features, ranks = extract_in_memory(extractor, files, layers, setting.batch_seconds, trainer, needed)
        scores = score_layers(conditions, features, ranks, shown=shown)
    else:
        store = extract(
            extractor, files, layers, folder, batch_seconds=setting.batch_seconds, dtype=dtype, trainer=trainer
        )
        speech.items.write(folder / ITEM_FILE)  # for those who score the features again
        stored = ((layer, store.layer(layer)) for layer in layers)
        scores = _score(conditions, stored, len(layers), shown=shown)
    return AbxResult(model, setting, extractor.frequency, scores)


def score_layers(
    conditions: Mapping[str, Scorer],
    features: dict[int, LayerFeatures],
    ranks: DistributedRanks | None,
    *,
    shown: bool = False,
    look: Callable[[int, LayerFeatures], None] | None = None,
) -> dict[tuple[int, str], Scores]:
    """Score each layer in each condition. ``features`` is emptied, layer by layer: no more than one is held twice.

    With several ranks, each comes with those that it has extracted. ``shown``: show a progress bar. ``look``: is called
    with each layer, once that is scored, and its features of all ranks.
    """

    def layers() -> Iterator[tuple[int, LayerFeatures]]:
        for layer, own in gathered(features, ranks):
            yield layer, own
            if look is not None:
                look(layer, own)

    return _score(conditions, layers(), len(features), ranks, shown=shown)


def _score(
    conditions: Mapping[str, Scorer],
    layers: Iterable[tuple[int, Mapping[str, Any]]],
    number: int,
    ranks: DistributedRanks | None = None,
    *,
    shown: bool = False,
) -> dict[tuple[int, str], Scores]:
    """Score ``number`` layers, each with its features, one after another."""
    scores: dict[tuple[int, str], Scores] = {}
    with WorkProgress("scoring", MofNCompleteColumn(), total=number * len(conditions), shown=shown) as progress:
        for layer, features in layers:
            for condition, scorer in conditions.items():
                progress.update(len(scores), description=f"scoring layer {layer}, {condition}")
                scores[layer, condition] = scorer(features, ranks)
    return scores
