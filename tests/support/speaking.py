"""Speech of noises with phones and tones, models of it with heads, and their stored features."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
import torch
from small import ARCHITECTURE, quiet_trainer

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import Model
from w2v_abx.features.extraction import extract
from w2v_abx.heads.readout import Kind, Readout
from w2v_abx.items.items import Items
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc

SOURCE: dict[str, Any] = {**ARCHITECTURE, "num_hidden_layers": 2}
LAYERS = 3
TONES = ("1", "2", "4")


def speech(folder: Path, files: int = 4) -> Speech:
    """Four items of 0.1 s in each file of 0.5 s; labels in several scripts, and one that would end a script."""
    made = np.random.default_rng(0)
    rows, paths = [], {}
    for file in range(files):
        name = f"文{file}"
        paths[name] = folder / f"{name}.wav"
        soundfile.write(paths[name], 0.1 * made.standard_normal(8000), 16000)
        for item in range(4):
            phone = ("a", "ŋ", "</script>", "б")[item]
            rows.append(
                {
                    "#file": name, "onset": f"{0.1 * item:.1f}", "offset": f"{0.1 * item + 0.1:.1f}", "#phone": phone,
                    "speaker": f"s{file % 2}", "tone": TONES[(item + file) % 3],
                }
            )  # fmt: skip
    return Speech(Items(pl.DataFrame(rows)), paths)


def head(kind: Kind = "framewise", layers: tuple[int, ...] = (2,), outputs: tuple[str, ...] = TONES) -> Readout:
    """A head with random weights."""
    made = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(len(outputs), 16, generator=made), torch.zeros(len(outputs))
    return Readout("tones", outputs, kind, weight, bias, layers, torch.full((len(layers),), 1 / len(layers)))


def model(name: str, speech: Speech, folder: Path, seed: int = 0, baseline: bool = False, **readouts: Readout) -> Model:
    """A random encoder, or MFCC, with its features."""
    load = Mfcc if name == "mfcc" else partial(Encoder.random, SOURCE, seed)
    layers = [0] if name == "mfcc" else [*range(LAYERS)]
    store = extract(load(), speech.files, layers, folder / name, trainer=quiet_trainer(folder))
    return Model(name, store, load, readouts, baseline=baseline)
