"""Feature stores and models of analyses, made of arrays."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import torch

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import Model
from w2v_abx.features.store import FeatureStore, StoreIdentity
from w2v_abx.features.writing import StoreWriter
from w2v_abx.items.items import Items


def made_store(folder: Path, layers: Mapping[int, Mapping[str, np.ndarray]], frequency: float = 50.0) -> FeatureStore:
    """Store features (F, D) by layer and file."""
    first = next(iter(layers.values()))
    dim = next(iter(first.values())).shape[1]
    identity = StoreIdentity("made", "32-true", frequency, dim, "float32", tuple(sorted(layers)), "made")
    with StoreWriter(folder, identity) as writer:
        for key, frames in first.items():
            each = [torch.from_numpy(layers[layer][key].astype(np.float32))[None] for layer in sorted(layers)]
            writer.add([key], each, torch.tensor([len(frames)]))
        return writer.finish()


def made_model(name: str, store: FeatureStore) -> Model:
    """Make a model of stored features alone."""

    def load() -> None:
        raise AssertionError("this analysis needs no weights")

    return Model(name, store, load, baseline=name in ("mfcc", "random"))  # type: ignore[arg-type]


def frame_items(**columns: list[str]) -> Speech:
    """Make items of five frames at 50 Hz each, one after another in each ``file``, with label columns."""
    files, seen, onsets = columns.pop("file"), dict[str, int](), list[int]()
    for file in files:
        onsets.append(seen.get(file, 0))
        seen[file] = seen.get(file, 0) + 1
    times = {"onset": [f"{n / 10:.1f}" for n in onsets], "offset": [f"{(n + 1) / 10:.1f}" for n in onsets]}
    return Speech(Items(pl.DataFrame({"#file": files, **times, **columns})), {})


def item_features(speech: Speech, vectors: np.ndarray, noise: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Give the five frames of each of `frame_items` its vector (D,), and noise of their own."""
    random = np.random.default_rng(seed)
    made: dict[str, list[np.ndarray]] = {}
    for file, vector in zip(speech.items.frame["#file"], vectors, strict=True):
        made.setdefault(file, []).append(vector + noise * random.normal(size=(5, len(vector))))
    return {file: np.concatenate(parts) for file, parts in made.items()}
