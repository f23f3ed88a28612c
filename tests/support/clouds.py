"""Stores of made-up features, whose frames belong to groups that are known."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import torch

from w2v_abx.abx.speech import Speech
from w2v_abx.features.store import FeatureStore, StoreIdentity
from w2v_abx.features.writing import StoreWriter
from w2v_abx.items.items import Items

PHONES = "ptka"
LENGTH = 5  # frames of a phone, at 50 Hz


def speech_of(files: int = 6, phones: int = 8, seed: int = 0) -> tuple[Speech, np.ndarray]:
    """Phones one after another, none twice in a row, and the phone's number of each frame, (files, frames)."""
    rng = np.random.default_rng(seed)
    numbers = np.cumsum(rng.integers(1, len(PHONES), (files, phones)), axis=1) % len(PHONES)
    rows = [
        {
            "#file": f"f{file}",
            "onset": f"{place * LENGTH / 50:.2f}",
            "offset": f"{(place + 1) * LENGTH / 50:.2f}",
            "#phone": PHONES[phone],
            "speaker": f"s{file % 3}",
        }
        for file, own in enumerate(numbers)
        for place, phone in enumerate(own)
    ]
    return Speech(Items(pl.DataFrame(rows)), {}), np.repeat(numbers, LENGTH, axis=1)


def store_of(
    folder: Path, layers: Mapping[int, np.ndarray], frequency: float = 50.0, dtype: str = "float32"
) -> FeatureStore:
    """Write a store of files f0, f1, …; ``layers``: (files, frames, D) of each."""
    first = next(iter(layers.values()))
    identity = StoreIdentity("x", "32-true", frequency, first.shape[2], dtype, tuple(layers), "y")
    with StoreWriter(folder, identity) as writer:
        for file in range(len(first)):
            vectors = [torch.from_numpy(array[file : file + 1]).float() for array in layers.values()]
            writer.add([f"f{file}"], vectors, torch.tensor([first.shape[1]]))
        return writer.finish()


def clouds(groups: np.ndarray, dims: int = 6, spread: float = 0.05, seed: int = 0) -> np.ndarray:
    """Vectors around a centre for each group, (…, D)."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((int(groups.max()) + 1, dims))
    return centres[groups] + spread * rng.standard_normal((*groups.shape, dims))
