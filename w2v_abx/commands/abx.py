"""`w2v-abx abx`: score a model, or stored features, on one set of items."""

import json
import time
from contextlib import nullcontext
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from w2v_abx.abx import Items
from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.scoring import Scores
from w2v_abx.abx.setting import AbxSetting, scorers
from w2v_abx.commands import output_folder
from w2v_abx.commands.listeners import measure_triplets
from w2v_abx.distributed import current_process
from w2v_abx.errors import InputError
from w2v_abx.features.settings import FeatureSettings
from w2v_abx.features.stored import stored_layers
from w2v_abx.runs import Run
from w2v_abx.training.trainers import evaluation_trainer

__all__ = ["main"]


def main(config: DictConfig) -> None:
    """Print a table, and as the last line of standard output one JSON object."""
    setting = AbxSetting.of(config.abx, config.seed)
    features = FeatureSettings.of(config.features)
    if features.keep and config.features.folder is not None:
        raise InputError(
            "features.keep=true keeps what a model gives, and features.folder takes the place of the model"
        )
    if current_process().rank and config.features.folder is not None:
        return  # there is no model whose work could be divided
    with nullcontext() if current_process().rank else Run(output_folder(), config) as run:
        measure(config, setting, features, run)


def measure(config: DictConfig, setting: AbxSetting, features: FeatureSettings, run: Run | None) -> None:
    """Score; with a ``run``, which the first rank has, also save and print."""
    if "triplets" in config.abx:
        measure_triplets(config, setting, features, run)
        return
    started = time.perf_counter()
    if config.features.folder is None:
        speech = current_process().in_turn(lambda: instantiate(config.abx.speech))
        encoder = instantiate(config.model)
        loaded = time.perf_counter()
        trainer = evaluation_trainer(config.trainer, instantiate(config.thermal))
        model = HydraConfig.get().runtime.choices["model"]
        kept = None if run is None else features.folder(run.folder, config.tag)
        result = evaluate(model, encoder, speech, setting, trainer, kept, features.dtype)
    else:
        if config.abx.get("items") is None:
            raise InputError("abx.items is missing; give the item file that goes with the features")
        items = Items.read(config.abx["items"])
        layers, frequency = stored_layers(config.features.folder, config.abx.frequency, setting.layers)
        conditions = scorers(items, setting, frequency)
        names = items.frame["#file"].unique()
        found: dict[tuple[int, str], Scores] = {}
        loaded = time.perf_counter()
        for layer, stored in layers:
            begun = time.perf_counter()
            own = {name: stored[name] for name in names if name in stored}
            loaded += time.perf_counter() - begun
            found |= {(layer, condition): scorer(own) for condition, scorer in conditions.items()}
        result = AbxResult(str(config.features.folder), setting, frequency, found)
    seconds = {"load": round(loaded - started, 3), "score": round(time.perf_counter() - loaded, 3)}
    if run is None:
        return
    result.save(run.folder / "abx", config.tag)
    show(result, Console())
    rows = [
        {key: row[key] for key in ("layer", "condition", "error", "cells", "triplets")}
        for row in result.summary(config.tag)["scores"]
    ]
    line: dict[str, Any] = rows[0] if len(rows) == 1 else {"scores": rows}
    print(json.dumps({**line, "seconds": seconds}))


def show(result: AbxResult, console: Console) -> None:
    """ABX error by layer and condition."""
    table = Table(title=f"ABX error (%), {result.model}", title_justify="left")
    table.add_column("layer", justify="right")
    conditions = list(dict.fromkeys(condition for _, condition in result.scores))
    for condition in conditions:
        table.add_column(f"{condition} speaker", justify="right")
    for layer in dict.fromkeys(layer for layer, _ in result.scores):
        errors = [f"{100 * result.error(layer, condition):.2f}" for condition in conditions]
        table.add_row(str(layer), *errors)
    console.print(table)
