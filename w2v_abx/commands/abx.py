"""`w2v-abx abx`: score a model, or stored features, on one set of items or of listener triplets."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.text import Text

from w2v_abx.abx import Items
from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.scoring import Scores
from w2v_abx.abx.setting import AbxSetting, scorers
from w2v_abx.commands import output_folder
from w2v_abx.commands.baselines import BASELINES, baseline, baselines_of
from w2v_abx.commands.given import features_given
from w2v_abx.commands.listeners import measure_triplets
from w2v_abx.distributed import current_process
from w2v_abx.errors import InputError
from w2v_abx.features.settings import FeatureSettings
from w2v_abx.features.store import ITEM_FILE
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.report import Summary, print_summary, summarize, write_report
from w2v_abx.report.summary import few
from w2v_abx.runs import Run
from w2v_abx.statistics.intervals import Estimate
from w2v_abx.system.streams import plain_console
from w2v_abx.training.trainers import evaluation_trainer

__all__ = ["main"]


def main(config: DictConfig) -> None:
    """Print tables, where the results are, and as the last line of standard output one JSON object."""
    setting = AbxSetting.of(config.abx)
    features = FeatureSettings.of(config.features)
    if features.keep and config.features.folder is not None:
        raise InputError(
            "features.keep=true keeps what a model gives, and features.folder takes the place of the model"
        )
    if config.tag in BASELINES:
        raise InputError(f"tag={config.tag} is the name of a baseline: choose another")
    first = current_process().rank == 0
    if not first and config.features.folder is not None:
        return  # there is no model whose work could be divided
    with Run(output_folder(), config) if first else nullcontext() as run:
        if "triplets" in config.abx:
            measured = measure_triplets(config, setting, features)
            if run is None or measured is None:
                return
            triplets, rows, table, seconds = measured
            triplets.save(run.folder / "abx", config.tag)
            plain_console().print(table)
            found: dict[str, Any] = {"scores": rows}
        else:
            results, seconds = measure_items(config, setting, features)
            if run is None:
                return
            for tag, result in results.items():
                result.save(run.folder / "abx", tag)
            run.record(state="finished")  # as the report has it
            summary = summarize(run.folder)
            write_report(summary)
            print_summary(summary, plain_console())
            found = found_in(summary, config.tag, setting.slicing)
        plain_console().print(Text(f"Scores: {run.folder / 'abx' / config.tag}"), soft_wrap=True)
        rounded = {part: round(spent, 3) for part, spent in seconds.items()}
        print(json.dumps({**found, "folder": str(run.folder), "seconds": rounded}, allow_nan=False))


def measure_items(
    config: DictConfig, setting: AbxSetting, features: FeatureSettings
) -> tuple[dict[str, AbxResult], dict[str, float]]:
    """Score every layer in each condition, and the baselines; all ranks take part, and have the whole result."""
    started = time.perf_counter()
    if config.features.folder is not None:
        result, loaded = score_features(config, setting, started)
        return {config.tag: result}, {"load": loaded, "score": time.perf_counter() - started - loaded}
    beside = baselines_of(config)
    speech = current_process().in_turn(lambda: instantiate(config.abx.speech))
    model = instantiate(config.model)
    loaded = time.perf_counter() - started
    trainer = evaluation_trainer(config.trainer, instantiate(config.thermal))
    name, folder = HydraConfig.get().runtime.choices["model"], features.folder(output_folder(), config.tag)
    results = {config.tag: evaluate(name, model, speech, setting, trainer, folder, features.dtype)}
    for tag in beside:
        if not (tag == "mfcc" and isinstance(model, Mfcc)):
            extractor, own = baseline(tag, config, setting)
            results[tag] = evaluate(tag, extractor, speech, own, trainer)
    return results, {"load": loaded, "score": time.perf_counter() - started - loaded}


def score_features(config: DictConfig, setting: AbxSetting, started: float) -> tuple[AbxResult, float]:
    """Score the features in ``features.folder``; also the seconds until they were read."""
    stored = Path(config.features.folder) / ITEM_FILE  # beside features that a run has kept
    path = config.abx.get("items") or (stored if stored.is_file() else None)
    if path is None:
        raise InputError("abx.items is missing; give the item file that goes with the features")
    items = Items.read(path)
    layers, frequency = features_given(config, items, setting)
    conditions = scorers(items, setting, frequency)
    found: dict[tuple[int, str], Scores] = {}
    scored = 0.0
    for layer, own in layers:
        begun = time.perf_counter()
        found |= {(layer, condition): scorer(own) for condition, scorer in conditions.items()}
        scored += time.perf_counter() - begun
    result = AbxResult(str(config.features.folder), setting, frequency, found)
    return result, time.perf_counter() - started - scored


def found_in(summary: Summary, tag: str, slicing: str) -> dict[str, Any]:
    """What a script wants of a run: error, interval and counts by layer and condition, of the model and baselines."""
    rows = {
        name: [plain(row, model.errors[where]) for where, row in model.scores.items()]
        for name, model in summary.models.items()
    }
    scores = rows.pop(tag)
    return {"scores": scores, "baselines": rows, "slicing": slicing, "warnings": few(summary.models[tag])}


def plain(row: Mapping[str, Any], error: Estimate) -> dict[str, Any]:
    """One error with its interval and counts, as JSON."""
    shown = {key: row[key] for key in ("layer", "condition", "error", "cells", "triplets", "items")}
    interval = [error.low, error.high] if math.isfinite(error.low) else None
    return {**shown, "pairs": error.n_pairs, "speakers": error.n_speakers or None, "interval": interval}
