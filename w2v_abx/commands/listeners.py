"""The part of `w2v-abx abx` that scores listener triplets."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from w2v_abx.abx.listeners.result import TripletResult
from w2v_abx.abx.listeners.scoring import score_triplets
from w2v_abx.abx.listeners.triplets import ListenerTriplets
from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import find_audio
from w2v_abx.commands import output_folder
from w2v_abx.commands.given import features_given
from w2v_abx.config import unwrap
from w2v_abx.distributed import current_process
from w2v_abx.errors import InputError
from w2v_abx.features.extraction import extract, extract_in_memory
from w2v_abx.features.memory import gathered
from w2v_abx.features.settings import FeatureSettings
from w2v_abx.training.trainers import evaluation_trainer

__all__ = ["Measured", "measure_triplets"]

# What to save, its rows for the JSON line, what to print, and the seconds that each part took.
Measured = tuple[AbxResult | TripletResult, list[dict[str, Any]], RenderableType, dict[str, float]]

COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {  # of the table, by their names in a row
    "layer": ("layer", str),
    "triplets": ("triplets", str),
    "error": ("error %", lambda error: f"{100 * error:.2f}"),
    "delta_scale_free_mean": ("delta", "{:.3f}".format),
    "delta_scale_free_std": ("std", "{:.3f}".format),
    "human_accuracy": ("human error %", lambda accuracy: f"{100 * (1 - accuracy):.2f}"),
    "spearman": ("Spearman", "{:.3f}".format),
    "log_likelihood_gain": ("log-lik. gain", "{:.1f}".format),
}


def measure_triplets(config: DictConfig, setting: AbxSetting, features: FeatureSettings) -> Measured | None:
    """Score the triplets of ``abx.triplets`` at every layer. All ranks extract features, and the first one scores."""
    started = time.perf_counter()
    if config.abx.triplets is None:
        raise InputError("abx.triplets is missing; give the table of triplets")
    triplets = ListenerTriplets.read(config.abx.triplets, unwrap(config.abx.stimuli))
    layers: Iterable[tuple[int, Mapping[str, Any]]]
    if config.features.folder is None:
        files = find_audio(triplets.items, config.abx.root)
        encoder = instantiate(config.model)
        trainer = evaluation_trainer(config.trainer, instantiate(config.thermal))
        model, frequency = HydraConfig.get().runtime.choices["model"], encoder.frequency
        loaded = time.perf_counter()
        asked, seconds = setting.layers_of(encoder), setting.batch_seconds
        folder = features.folder(output_folder(), config.tag)
        if folder is None:
            layers = list(gathered(*extract_in_memory(encoder, files, asked, seconds, trainer)))
        else:
            store = extract(encoder, files, asked, folder, batch_seconds=seconds, dtype=features.dtype, trainer=trainer)
            layers = ((layer, store.layer(layer)) for layer in asked)
    else:
        layers, frequency = features_given(config, triplets.items, setting)
        model = str(config.features.folder)
        loaded = time.perf_counter()
    if current_process().rank:
        return None
    options = {"frequency": frequency, "distance": setting.distance, "pooling": setting.pooling}
    scores = {layer: score_triplets(own, triplets, **options) for layer, own in layers}
    result = TripletResult(model, frequency, setting.distance, setting.pooling, scores)
    scored = time.perf_counter()
    rows = result.rows()  # which compares them with the listeners
    spent = {"load": loaded - started, "score": scored - loaded, "human": time.perf_counter() - scored}
    return result, rows, shown(model, rows), spent


def shown(model: str, rows: list[dict[str, Any]]) -> Group:
    """Show error, delta values and, where there are listeners, how well delta values go with them, by layer."""
    table = Table(title=f"Listener triplets, {model}; delta over the mean distance", title_justify="left")
    columns = {name: column for name, column in COLUMNS.items() if name in rows[0]}
    for title, _ in columns.values():
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*("–" if row[name] is None else form(row[name]) for name, (_, form) in columns.items()))
    reasons = dict.fromkeys(reason for row in rows for reason in row.get("reasons", ()))
    return Group(table, *(Text(f"Not given: {reason}.") for reason in reasons))
