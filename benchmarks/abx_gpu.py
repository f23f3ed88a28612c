"""ABX scoring on a GPU: beside fastabx on the same card, and all layers of wav2vec 2.0 base beside their extraction.

The first corpus is that of `benchmarks/abx.py`, both sides with its features in the card's memory; only building the
task and scoring are timed, after a first run on a few items that loads the libraries and compiles what counts triplets
on the CPU. The second is noise through a randomly initialised encoder, cut into items that are labelled as those of the
first. Says so where there is no GPU.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from abx import FREQUENCY, PHONES, SPEAKERS, generate
from torch import Tensor

from w2v_abx.abx import Items, Scorer, Task
from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.models.encoder import Encoder

TASKS = (("across", "within", 1), ("within", "within", 1), ("across", "any", 15), ("within", "any", 15))
DEV_CLEAN = 5.4  # hours
CLIP = 8.0  # seconds
FEW = 500  # items of the first run


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of ``work`` until the card has done all of it, and what it returned."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    found = work()
    torch.cuda.synchronize()
    return time.perf_counter() - started, found


def scorer(items: Items, task: Task, **settings: Any) -> Scorer:
    return Scorer(items, task, device="cuda", **settings)


def by_file(items: Items, features: Tensor) -> dict[str, Tensor]:
    """The frames of each file of a generated corpus, views of ``features``."""
    _, stops = items.spans(Fraction(FREQUENCY))
    names = items.frame["#file"].to_numpy()
    files, position = {}, 0
    for name in dict.fromkeys(names):
        length = int(stops[names == name].max())
        files[name] = features[position : position + length]
        position += length
    return files


def ours(items: Items, files: dict[str, Tensor], speaker: str, context: str) -> float:
    return scorer(items, Task.preset(speaker, context), frequency=FREQUENCY)(files).error()


def fastabx(labels: pl.DataFrame, features: Tensor, speaker: str, context: str) -> float:
    from fastabx import Dataset, Score  # type: ignore[import-not-found]
    from fastabx import Task as PeerTask
    from fastabx.accessor import InMemoryAccessor  # type: ignore[import-not-found]

    ends = np.cumsum(((labels["offset"] - labels["onset"]) * FREQUENCY).round().cast(pl.Int64).to_numpy())
    spans = dict(enumerate(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)))
    dataset = Dataset(labels, InMemoryAccessor(spans, features, features.device))
    by = ["prev-phone", "next-phone"] if context == "within" else []
    if speaker == "within":
        task = PeerTask(dataset, on="#phone", by=[*by, "speaker"])
    else:
        task = PeerTask(dataset, on="#phone", by=by, across=["speaker"])
    return Score(task, "angular", progress=False).collapse(levels=[*([tuple(by)] if by else []), "speaker"])


def beside_fastabx(items: int, rounds: int, peer: bool) -> None:
    for share in sorted({share for *_, share in TASKS}):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            generate(folder, items // share)
            table = Items.read(folder / "items.item")
            labels = pl.read_csv(folder / "items.item", separator=" ")
            features = torch.from_numpy(np.load(folder / "features.npy")).cuda()
        files = by_file(table, features)
        for speaker, context, of in TASKS * rounds:
            if of != share:
                continue
            seconds, error = timed(partial(ours, table, files, speaker, context))
            line = f"{len(table)} items, {speaker} speaker, {context} context: {seconds:.2f} s"
            if peer:
                other, expected = timed(partial(fastabx, labels, features, speaker, context))
                line += f"; fastabx {other:.2f} s: {other / seconds:.2f} times faster"
                line += f", errors {error:.6f} and {expected:.6f}"
            print(line, flush=True)


def extract(encoder: Encoder, clips: Tensor, size: int, half: bool) -> list[dict[str, Tensor]]:
    """Features of all layers, float32, of ``clips`` (N, samples), ``size`` clips at a time."""
    layers: list[dict[str, Tensor]] = [{} for _ in range(encoder.n_layers)]
    for first in range(0, len(clips), size):
        batch = clips[first : first + size]
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            hidden, _ = encoder(batch, torch.full((len(batch),), batch.shape[1], device=batch.device))
        for layer, frames in zip(layers, hidden, strict=True):
            layer.update((f"clip{first + k}", frame) for k, frame in enumerate(frames.float()))
    return layers


def items_in(clips: int, frames: int, number: int, rng: np.random.Generator) -> Items:
    """Items of 5 to 20 frames anywhere in clips of ``frames``, in Zipf-like contexts; a clip has one speaker."""
    shares = 1 / np.arange(1, PHONES + 1)
    shares /= shares.sum()
    clip, length = rng.integers(clips, size=number), rng.integers(5, 21, number)
    onset = rng.integers(frames - length)
    labels = {
        name: [f"p{k}" for k in rng.choice(PHONES, number, p=shares)] for name in ("#phone", "prev-phone", "next-phone")
    }
    times = {"onset": onset / FREQUENCY, "offset": (onset + length) / FREQUENCY}
    speaker = [f"s{k % SPEAKERS}" for k in clip]
    return Items(pl.DataFrame({"#file": [f"clip{k}" for k in clip], **times, **labels, "speaker": speaker}))


def score_all(scoring: Scorer, layers: list[dict[str, Tensor]]) -> list[float]:
    return [scoring(layer).error() for layer in layers]


@torch.inference_mode()
def beside_extraction(hours: float, number: int, batch_seconds: float) -> None:
    encoder = Encoder.random({"model_type": "wav2vec2"}).cuda()
    frame_bytes = encoder.n_layers * encoder.dim * 4
    room = torch.cuda.mem_get_info()[0] * 0.4 / (frame_bytes * FREQUENCY * 3600)  # hours of features
    hours = min(hours, room)
    samples, count = int(CLIP * SAMPLE_RATE), int(hours * 3600 / CLIP)
    clips = torch.randn(count, samples, device="cuda")
    frames = int(encoder.frame_lengths(torch.tensor([samples])))
    items = items_in(count, frames, number, np.random.default_rng(0))
    size = max(1, int(batch_seconds / CLIP))
    extract(encoder, clips[:size], size, False)
    for half in (True, False):
        extracting, layers = timed(partial(extract, encoder, clips, size, half))
        for speaker in ("across", "within"):
            scoring = scorer(items, Task.preset(speaker, "within"), frequency=FREQUENCY)
            seconds, _ = timed(partial(score_all, scoring, layers))
            print(
                f"wav2vec 2.0 base, {hours:.1f} h, {len(items)} items, {speaker} speaker: "
                f"extracting {len(layers)} layers in {'bfloat16' if half else 'float32'} {extracting:.2f} s, "
                f"scoring them {seconds:.2f} s: {extracting / seconds:.2f} times faster",
                flush=True,
            )
        del layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=60_000, help="for tasks within context; any context gets 1/15")
    parser.add_argument("--hours", type=float, default=DEV_CLEAN, help="of audio, or as many as the card has room for")
    parser.add_argument("--batch-seconds", type=float, default=256.0)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured")
        return
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    peer = importlib.util.find_spec("fastabx") is not None
    if not peer:
        print(f"fastabx cannot be imported by {sys.executable}: measuring this side alone")
    first, _ = timed(partial(beside_fastabx, FEW, 1, False))
    print(f"the first run, on {FEW} items, took {first:.1f} s\n", flush=True)
    beside_fastabx(arguments.items, arguments.rounds, peer)
    beside_extraction(arguments.hours, arguments.items, arguments.batch_seconds)


if __name__ == "__main__":
    main()
