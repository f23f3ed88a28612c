"""`w2v-abx abx`: score a model, or stored features, on one set of items or of listener triplets."""

import json
import time
from contextlib import nullcontext

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.table import Table

from w2v_abx.abx import Items
from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.scoring import Scores
from w2v_abx.abx.setting import AbxSetting, scorers
from w2v_abx.commands import output_folder
from w2v_abx.commands.listeners import Measured, measure_triplets
from w2v_abx.distributed import current_process
from w2v_abx.errors import InputError
from w2v_abx.features.foreign import stored_layers
from w2v_abx.features.settings import FeatureSettings
from w2v_abx.items.names import matched
from w2v_abx.runs import Run
from w2v_abx.statistics.verdict import IN_WORDS
from w2v_abx.system.streams import plain_console
from w2v_abx.training.trainers import evaluation_trainer

__all__ = ["main"]


def main(config: DictConfig) -> None:
    """Print a table, and as the last line of standard output one JSON object."""
    setting = AbxSetting.of(config.abx)
    features = FeatureSettings.of(config.features)
    if features.keep and config.features.folder is not None:
        raise InputError(
            "features.keep=true keeps what a model gives, and features.folder takes the place of the model"
        )
    first = current_process().rank == 0
    if not first and config.features.folder is not None:
        return  # there is no model whose work could be divided
    measure = measure_triplets if "triplets" in config.abx else measure_items
    with Run(output_folder(), config) if first else nullcontext() as run:
        measured = measure(config, setting, features)
        if run is not None and measured is not None:
            result, rows, table, seconds = measured
            result.save(run.folder / "abx", config.tag)
            plain_console().print(table)
            line = rows[0] if len(rows) == 1 else {"scores": rows}
            rounded = {part: round(spent, 3) for part, spent in seconds.items()}
            print(json.dumps({**line, "seconds": rounded}, allow_nan=False))


def measure_items(config: DictConfig, setting: AbxSetting, features: FeatureSettings) -> Measured:
    """Score every layer in each condition; all ranks take part, and have the whole result."""
    started = time.perf_counter()
    if config.features.folder is None:
        speech = current_process().in_turn(lambda: instantiate(config.abx.speech))
        encoder = instantiate(config.model)
        loaded = time.perf_counter()
        trainer = evaluation_trainer(config.trainer, instantiate(config.thermal))
        model, folder = HydraConfig.get().runtime.choices["model"], features.folder(output_folder(), config.tag)
        result = evaluate(model, encoder, speech, setting, trainer, folder, features.dtype)
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
            own = {name: stored[key] for name, key in matched(names, stored).items()}
            loaded += time.perf_counter() - begun
            found |= {(layer, condition): scorer(own) for condition, scorer in conditions.items()}
        result = AbxResult(str(config.features.folder), setting, frequency, found)
    seconds = {"load": loaded - started, "score": time.perf_counter() - loaded}
    shown = ("layer", "condition", "error", "cells", "triplets")
    rows = [{key: row[key] for key in shown} for row in result.summary(config.tag)["scores"]]
    return result, rows, table_of(result), seconds


def table_of(result: AbxResult) -> Table:
    """Make a table of the ABX error by layer and condition."""
    table = Table(title=f"ABX error (%), {result.model}", title_justify="left")
    table.add_column("layer", justify="right")
    conditions = list(dict.fromkeys(condition for _, condition in result.scores))
    for condition in conditions:
        table.add_column(f"{condition} speaker" if condition in IN_WORDS else condition, justify="right")
    for layer in dict.fromkeys(layer for layer, _ in result.scores):
        errors = [f"{100 * result.error(layer, condition):.2f}" for condition in conditions]
        table.add_row(str(layer), *errors)
    return table
