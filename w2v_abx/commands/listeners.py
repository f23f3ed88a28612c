"""The part of `w2v-abx abx` that scores listener triplets."""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from w2v_abx.abx.listeners.result import TripletResult
from w2v_abx.abx.listeners.scoring import score_triplets
from w2v_abx.abx.listeners.triplets import ListenerTriplets
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import find_audio
from w2v_abx.errors import InputError
from w2v_abx.features.extraction import extract, extract_in_memory
from w2v_abx.features.memory import gathered
from w2v_abx.features.settings import FeatureSettings
from w2v_abx.features.stored import stored_layers
from w2v_abx.runs import Run
from w2v_abx.training.trainers import evaluation_trainer

__all__ = ["measure_triplets"]


def measure_triplets(config: DictConfig, setting: AbxSetting, features: FeatureSettings, run: Run | None) -> None:
    """Score the triplets of ``abx.triplets``; with a ``run``, which the first rank has, also save and print."""
    started = time.perf_counter()
    if config.abx.triplets is None:
        raise InputError("abx.triplets is missing; give the table of triplets")
    stimuli: Any = config.abx.stimuli
    if OmegaConf.is_config(stimuli):
        stimuli = OmegaConf.to_container(stimuli)
    triplets = ListenerTriplets.read(config.abx.triplets, stimuli)
    layers: Iterable[tuple[int, Mapping[str, Any]]]
    if config.features.folder is None:
        files = find_audio(triplets.items, config.abx.root)
        encoder = instantiate(config.model)
        trainer = evaluation_trainer(config.trainer, instantiate(config.thermal))
        model, frequency = HydraConfig.get().runtime.choices["model"], encoder.frequency
        loaded = time.perf_counter()
        asked, seconds = setting.layers_of(encoder), setting.batch_seconds
        kept = None if run is None else features.folder(run.folder, config.tag)
        if kept is None:
            layers = list(gathered(*extract_in_memory(encoder, files, asked, seconds, trainer)))
        else:
            store = extract(encoder, files, asked, kept, batch_seconds=seconds, dtype=features.dtype, trainer=trainer)
            layers = ((layer, store.layer(layer)) for layer in asked)
    else:
        layers, frequency = stored_layers(config.features.folder, config.abx.frequency, setting.layers)
        model = str(config.features.folder)
        loaded = time.perf_counter()
    if run is None:
        return
    options = {"frequency": frequency, "distance": setting.distance, "pooling": setting.pooling}
    scores = {layer: score_triplets(own, triplets, **options) for layer, own in layers}
    result = TripletResult(model, frequency, setting.distance, setting.pooling, scores)
    scored = time.perf_counter()
    result.save(run.folder / "abx", config.tag)
    show(result, Console())
    rows = result.rows()
    line: dict[str, Any] = rows[0] if len(rows) == 1 else {"scores": rows}
    spent = {
        "load": round(loaded - started, 3),
        "score": round(scored - loaded, 3),
        "human": round(time.perf_counter() - scored, 3),
    }
    print(json.dumps({**line, "seconds": spent}, allow_nan=False))


def show(result: TripletResult, console: Console) -> None:
    """Error, delta values and, where there are listeners, how well delta values go with them, by layer."""
    table = Table(title=f"Listener triplets, {result.model}; delta over the mean distance", title_justify="left")
    titles = {
        "layer": "layer",
        "triplets": "triplets",
        "error": "error %",
        "delta_scale_free_mean": "delta",
        "delta_scale_free_std": "std",
        "human_accuracy": "human error %",
        "spearman": "Spearman",
        "log_likelihood_gain": "log-lik. gain",
    }
    rows = result.rows()
    shown = [name for name in titles if name in rows[0]]
    for name in shown:
        table.add_column(titles[name], justify="right")
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in shown))
    console.print(table)
    for reason in dict.fromkeys(reason for row in rows for reason in row.get("reasons", ())):
        console.print(f"Not given: {reason}.", markup=False)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name in ("layer", "triplets"):
        return str(value)
    if name in ("error", "human_accuracy"):
        return f"{100 * (value if name == 'error' else 1 - value):.2f}"
    return f"{value:.1f}" if name == "log_likelihood_gain" else f"{value:.3f}"
