"""Analyses of stored features, beside the least that they have to do.

    python benchmarks/analysis.py                               # 13 layers of 768 dimensions, 100,000 frames
    python benchmarks/analysis.py --frames 1000000 --layers 13  # 40 GB of disk

similarity: against three labels (phone, tone, sex), held out by 40 speakers in 10 folds with 5 permutations each,
beside reading the same frames and computing their Gram matrix in float64, in batches, as one product of matrices. Both
use the same threads, in turns. Prints the seconds of each round, and those of the processor, which other work on the
machine changes less; then the medians of their ratios. The aim is 1.2.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import torch

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import Model
from w2v_abx.analysis.points import Points
from w2v_abx.analysis.similarity import Similarity
from w2v_abx.features.store import FeatureStore, StoreIdentity
from w2v_abx.features.writing import StoreWriter
from w2v_abx.items.items import Items

SPEAKERS, FILES, PHONES = 40, 5, 40
ITEM = 8  # frames
FREQUENCY = 50
NAMES = ("Gram matrices", "similarity")


def speech(frames: int) -> Speech:
    """Items of phones, one after another, in files of speakers; every other one bears a tone."""
    random = np.random.default_rng(0)
    number = frames // ITEM
    file = np.arange(number) * SPEAKERS * FILES // number
    place = np.arange(number) - np.searchsorted(file, file)
    phone = random.integers(0, PHONES, number)
    speaker = file // FILES
    items = {
        "#file": [f"f{n}" for n in file],
        "onset": [f"{n * ITEM / FREQUENCY:.2f}" for n in place],
        "offset": [f"{(n + 1) * ITEM / FREQUENCY:.2f}" for n in place],
        "#phone": [f"p{n}" for n in phone],
        "tone": np.where(phone % 2, random.integers(1, 5, number).astype(str), "-").tolist(),
        "sex": np.where(speaker % 2, "f", "m").tolist(),
        "speaker": [f"s{n}" for n in speaker],
    }
    return Speech(Items(pl.DataFrame(items)), {})


def store(folder: Path, items: Items, layers: int, dim: int) -> FeatureStore:
    """Store random features of variances that fall as those of a transformer do."""
    random = torch.Generator().manual_seed(0)
    scales = torch.arange(1, dim + 1).pow(-0.5)
    identity = StoreIdentity("benchmark", "32-true", FREQUENCY, dim, "float32", tuple(range(layers)), "benchmark")
    with StoreWriter(folder, identity) as writer:
        for key, count in items.frame.group_by("#file", maintain_order=True).len().iter_rows():
            frames = count * ITEM
            writer.add(
                [key],
                [torch.randn(1, frames, dim, generator=random) * scales for _ in range(layers)],
                torch.tensor([frames]),
            )
        return writer.finish()


def grams(features: FeatureStore, points: Points) -> None:
    """Read the frames of each layer and compute their Gram matrix."""
    for layer in features.layers:
        gram = np.zeros((features.identity.dim,) * 2)
        for _, vectors in points.batches(features, layer):
            wide = vectors.astype(np.float64)
            gram += wide.T @ wide


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Time a run: seconds that pass, and of the processor."""
    start = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def similarity(features: FeatureStore, said: Speech, rounds: int) -> None:
    """Compare the analysis with the Gram matrices of what it reads."""
    points = Points.draw(said.items, FREQUENCY, "frames")
    models = {"before": Model("before", features, lambda: None)}  # type: ignore[arg-type, return-value]
    analysis = Similarity(labels=["#phone", "tone", "sex"], level="frames", limit=None, between=False)
    times = []
    for number in range(rounds):
        least, whole = seconds(lambda: grams(features, points)), seconds(lambda: analysis(models, said, seed=0))
        shown = [
            f"{name} {took:.1f} s (processor {of_cpu:.1f} s)"
            for name, (took, of_cpu) in zip(NAMES, (least, whole), strict=True)
        ]
        print(f"round {number + 1}: {', '.join(shown)}", flush=True)
        times.append([whole[kind] / least[kind] for kind in (0, 1)])
    passed, of_cpu = (median(found) for found in zip(*times, strict=True))
    print(f"similarity / Gram matrices: {passed:.2f} (processor {of_cpu:.2f}); {len(points):,} frames")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        said = speech(asked.frames)
        features = store(Path(folder) / "store", said.items, asked.layers, asked.dim)
        similarity(features, said, asked.rounds)


if __name__ == "__main__":
    main()
