"""Noise with items, as audio and as features: small speech for tests of the evaluation."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from w2v_abx import audio
from w2v_abx.abx import Items
from w2v_abx.abx.speech import Speech

COLUMNS = ["#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker"]


def noises(folder: Path, takes: int = 6) -> Speech:
    """Files of different lengths by two speakers, two phones each in one context, one item a file."""
    rng = np.random.default_rng(0)
    rows, files = [], {}
    for speaker in ("ann", "bob"):
        for take in range(takes):
            name = f"{speaker}{take}"
            files[name] = folder / "audio" / f"{name}.flac"
            files[name].parent.mkdir(exist_ok=True, parents=True)
            audio.save(files[name], (0.1 * rng.standard_normal(int(rng.integers(8_000, 20_000)))).astype(np.float32))
            phone = "a" if take % 2 else "i"
            rows.append([name, "0.1", f"{rng.uniform(0.2, 0.4):.3f}", phone, "t", "k", speaker])
    return Speech(Items(pl.DataFrame(rows, schema=COLUMNS, orient="row")), files)


def batches(
    items: Items, size: int = 4, dims: int = 5, seed: int = 0
) -> list[tuple[list[str], torch.Tensor, torch.Tensor]]:
    """Padded batches of random features of all files, 50 frames a second, with rubbish in the padding."""
    generator = torch.Generator().manual_seed(seed)
    names = sorted(set(items.frame["#file"]))
    made = []
    for begin in range(0, len(names), size):
        part = names[begin : begin + size]
        lengths = torch.randint(20, 40, (len(part),), generator=generator)
        features = torch.randn(len(part), int(lengths.max()) + 2, dims, generator=generator)
        made.append((part, features, lengths))
    return made


def unpadded(made: list[tuple[list[str], torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The features of each file."""
    return {
        name: row[:length]
        for names, features, lengths in made
        for name, row, length in zip(names, features, lengths.tolist(), strict=True)
    }
