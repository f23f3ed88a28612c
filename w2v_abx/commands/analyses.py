"""What `analyze`, and a training at its end, do to look inside models: extract features, then analyse them."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import Analysis, Model
from w2v_abx.config import unwrap
from w2v_abx.errors import InputError
from w2v_abx.features.cache import FeatureCache
from w2v_abx.features.extraction import bytes_needed, extract_cached
from w2v_abx.features.store import FeatureStore, is_store
from w2v_abx.heads.readout import Readout
from w2v_abx.items.frames import exact_frequency
from w2v_abx.items.items import FILE
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.extractor import Extractor
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.system.checks import choice
from w2v_abx.system.streams import plain_console

__all__ = ["Subject", "analyse", "analyses_of", "baseline_subjects", "check_analyses", "feature_cache", "speech_for"]


@dataclass(frozen=True)
class Subject:
    """A model that is to be analysed; see `w2v_abx.analysis.analysis.Model`.

    ``kept``: folders in which its features may lie already. ``source``: of its architecture.
    """

    name: str
    load: Callable[[], Extractor]
    readouts: Mapping[str, Readout] = field(default_factory=dict)
    tasks: Sequence[str] = ()
    baseline: bool = False
    kept: Sequence[Path] = ()
    rated: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: Any = None


def analyses_of(config: DictConfig) -> dict[str, Analysis]:
    """Make the analyses of a configuration, by name."""
    return {str(name): instantiate(made) for name, made in (config.analysis or {}).items() if made is not None}


def feature_cache(config: DictConfig) -> FeatureCache:
    """Where the features of analyses are stored."""
    return FeatureCache(Path(config.paths.data) / "features", config.features.gigabytes, config.features.dtype)


def speech_for(*configs: DictConfig) -> Speech | None:
    """Make the speech that is analysed, of the first configuration that says it; None: none does."""
    for config in configs:
        for key in ("analysis_speech", "abx.speech"):
            if (found := OmegaConf.select(config, key)) is not None:
                speech: Speech = instantiate(found)
                return speech
    return None


def baseline_subjects(names: Sequence[str], source: Any, seed: int) -> list[Subject]:
    """The baselines: MFCC, and the architecture of ``source`` with random weights."""
    made: dict[str, Callable[[], Extractor]] = {"mfcc": Mfcc, "random": partial(Encoder.random, unwrap(source), seed)}
    return [Subject(name, made[name], baseline=True) for name in made if name in names]


def check_analyses(analyses: Mapping[str, Analysis], speech: Speech, names: Sequence[str], layers: int) -> None:
    """Raise InputError where an analysis cannot be made of these items, or of models of so many ``layers``."""
    for name, analysis in analyses.items():
        analysis.check(speech.items, names)
        for layer in analysis.layers or ():
            choice(f"analysis.{name}.layers", layer, range(layers))


def analyse(
    analyses: Mapping[str, Analysis],
    subjects: Sequence[Subject],
    speech: Speech,
    folder: Path,
    cache: FeatureCache,
    trainer: lightning.Trainer,
    seed: int,
) -> Iterator[str]:
    """Extract the layers that are needed, make each analysis and save it in ``folder``/analysis; give its name then.

    Raises:
        InputError: the features of all models take more room than there is; before any is extracted.
    """
    console = plain_console()
    models: dict[str, Model] = {}
    files = {name: speech.files[name] for name in speech.items.frame[FILE].unique(maintain_order=True)}
    needed = 0
    for subject in subjects:
        if not any(map(is_store, subject.kept)):
            extractor = subject.load()
            needed += bytes_needed(extractor, files, _layers(analyses, extractor), cache)
    if reason := cache.over_limit(needed):
        raise InputError(f"{reason}: raise it, take fewer models or layers, or features.dtype=float16")

    def extract(extractor: Extractor) -> FeatureStore:
        return extract_cached(extractor, files, range(extractor.n_layers), cache, trainer=trainer)

    for subject in subjects:
        console.print(f"features: {subject.name}")
        extractor = subject.load()
        store = extract_cached(extractor, files, _layers(analyses, extractor), cache, subject.kept, trainer=trainer)
        own = subject.readouts, subject.tasks, subject.baseline, subject.rated, extract
        models[subject.name] = Model(subject.name, store, subject.load, *own)
    speech = _within_files(speech, [model.store for model in models.values()])
    for name, analysis in analyses.items():
        console.print(f"analysis: {name}")
        analysis(models, speech, seed=seed).save(folder / "analysis" / name)
        yield name


def _within_files(speech: Speech, stores: Sequence[FeatureStore]) -> Speech:
    """Leave out the items that begin behind a file's last frame in some store, which is a little before its end."""
    keys, there = speech.items.frame[FILE].to_list(), np.ones(len(speech.items), dtype=bool)
    for store in stores:
        frames = store.places(list(dict.fromkeys(keys)))[1]
        starts, _ = speech.items.spans(exact_frequency(store.frequency))
        there &= starts < np.array([frames[key] for key in keys])
    if left_out := int((~there).sum()):
        warnings.warn(f"{left_out:,} items begin behind the last frame of their file, and are left out", stacklevel=2)
    return replace(speech, items=speech.items.take(np.flatnonzero(there))) if left_out else speech


def _layers(analyses: Mapping[str, Analysis], extractor: Extractor) -> list[int]:
    every = range(extractor.n_layers)
    if isinstance(extractor, Mfcc) or any(analysis.layers is None for analysis in analyses.values()):
        return [*every]
    return sorted({layer for analysis in analyses.values() for layer in analysis.layers or () if layer in every})
