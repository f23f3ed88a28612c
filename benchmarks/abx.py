"""ABX scoring beside fastabx: building the task and scoring it, pair by pair, with peak memory; and how it scales.

The corpus is generated: triphones of 39 phones in Zipf-like contexts by 20 speakers, 5 to 40 frames of 768 dimensions.
Each measurement is a process of its own that reads the same arrays, and only task and scores are timed. fastabx is
measured where it can be imported by this Python, or by the one that ``--peer`` names (it needs 3.12 or later).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

PHONES, SPEAKERS, WIDTH, SHORTEST, LONGEST, FREQUENCY = 39, 20, 768, 5, 40, 50
SIZES = (5_000, 10_000, 20_000, 40_000, 80_000)
WITHIN_CONTEXT = (("across", "within"), ("within", "within"))
ANY_CONTEXT = (("across", "any"), ("within", "any"))  # far more pairs an item


def generate(folder: Path, items: int, seed: int = 0) -> None:
    """Write ``items.item`` and the frames of all items, speaker by speaker, in ``features.npy``."""
    rng = np.random.default_rng(seed)
    zipf = 1 / np.arange(1, PHONES + 1)
    shares = zipf / zipf.sum()
    phone = rng.choice(PHONES, items, p=np.sqrt(shares) / np.sqrt(shares).sum())
    contexts = zipf**0.57 / (zipf**0.57).sum()
    before, after = (rng.choice(PHONES, items, p=contexts) for _ in range(2))
    speaker = np.sort(rng.integers(SPEAKERS, size=items))
    length = rng.integers(SHORTEST, LONGEST + 1, items)
    centres = rng.normal(size=(PHONES, WIDTH)).astype(np.float32)
    voices = rng.normal(size=(SPEAKERS, WIDTH)).astype(np.float32)
    ends = np.cumsum(length)
    features = np.lib.format.open_memmap(
        folder / "features.npy", mode="w+", dtype=np.float32, shape=(int(ends[-1]), WIDTH)
    )
    for item in range(items):
        frames = rng.standard_normal((length[item], WIDTH), dtype=np.float32)
        features[ends[item] - length[item] : ends[item]] = (
            3 * frames + 0.3 * centres[phone[item]] + 0.2 * voices[speaker[item]]
        )
    features.flush()
    rows = ["#file onset offset #phone prev-phone next-phone speaker"]
    first = np.concatenate([[0], np.flatnonzero(np.diff(speaker)) + 1])
    base = np.repeat((ends - length)[first], np.diff([*first, items]))
    for item in range(items):
        onset, offset = ends[item] - length[item] - base[item], ends[item] - base[item]
        labels = f"p{phone[item]} p{before[item]} p{after[item]} s{speaker[item]}"
        rows.append(f"s{speaker[item]} {onset / FREQUENCY:.2f} {offset / FREQUENCY:.2f} {labels}")
    (folder / "items.item").write_text("\n".join(rows) + "\n")


def ours(folder: Path, speaker: str, context: str) -> dict[str, Any]:
    from w2v_abx.abx import Items, Task, score

    items = Items.read(folder / "items.item")
    features = np.load(folder / "features.npy")
    _, stops = items.spans(Fraction(FREQUENCY))
    names = items.frame["#file"].to_numpy()
    frames, position = {}, 0
    for name in dict.fromkeys(names):
        length = int(stops[names == name].max())
        frames[name] = features[position : position + length]
        position += length
    loaded = time.perf_counter()
    scores = score(frames, items, Task.preset(speaker, context), frequency=FREQUENCY)
    error = scores.error()
    seconds = time.perf_counter() - loaded
    return {"seconds": seconds, "error": error, "cells": scores.cells.height, "triplets": scores.triplets}


def item_pairs(folder: Path, speaker: str, context: str) -> int:
    """The number of pairs of items whose distance some cell needs."""
    from w2v_abx.abx import Items, Task
    from w2v_abx.abx.cells import build_cells

    items = Items.read(folder / "items.item")
    cells = build_cells(items, np.arange(len(items)), Task.preset(speaker, context))
    x, others = np.tile(cells.groups[2], 2), cells.groups[:2].ravel()
    pairs = np.unique(np.sort(np.stack([x, others]), axis=0), axis=1)
    return int(np.diff(cells.starts)[pairs].prod(axis=0).sum())


def fastabx(folder: Path, speaker: str, context: str) -> dict[str, Any]:
    import torch
    from fastabx import Dataset, Score, Task  # type: ignore[import-not-found]
    from fastabx.accessor import InMemoryAccessor  # type: ignore[import-not-found]

    labels = pl.read_csv(folder / "items.item", separator=" ")
    ends = np.cumsum(((labels["offset"] - labels["onset"]) * FREQUENCY).round().cast(pl.Int64).to_numpy())
    spans = dict(enumerate(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)))
    device = torch.device("cpu")
    dataset = Dataset(labels, InMemoryAccessor(spans, torch.from_numpy(np.load(folder / "features.npy")), device))
    by = ["prev-phone", "next-phone"] if context == "within" else []
    loaded = time.perf_counter()
    if speaker == "within":
        task = Task(dataset, on="#phone", by=[*by, "speaker"])
    else:
        task = Task(dataset, on="#phone", by=by, across=["speaker"])
    error = Score(task, "angular", progress=False).collapse(levels=[*([tuple(by)] if by else []), "speaker"])
    return {"seconds": time.perf_counter() - loaded, "error": error, "cells": len(task)}


SIDES = {"ours": ours, "fastabx": fastabx}


def measure(python: str, side: str, folder: Path, speaker: str, context: str) -> dict[str, Any]:
    """Run one side in its own process."""
    command = [python, __file__, "--side", side, "--folder", str(folder), "--task", speaker, context]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def has_fastabx(python: str) -> bool:
    return not subprocess.run([python, "-c", "import fastabx"], check=False, capture_output=True).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=60_000, help="for tasks within context; any context gets 1/15")
    parser.add_argument("--peer", default=sys.executable, help="a Python that can import fastabx")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scaling", type=Path, help="instead, draw seconds from 5,000 to 80,000 items into this PNG")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        found = SIDES[arguments.side](arguments.folder, *arguments.task)
        found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(found))
        return
    if arguments.scaling:
        scaling(arguments.scaling)
        return
    peer = has_fastabx(arguments.peer)
    if not peer:
        print("fastabx cannot be imported: measuring this side alone (name a Python that has it with --peer)")
    for items, tasks in ((arguments.items, WITHIN_CONTEXT), (arguments.items // 15, ANY_CONTEXT)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            generate(folder, items)
            for speaker, context in tasks:
                for _ in range(arguments.rounds):
                    compare(folder, items, speaker, context, arguments.peer if peer else None)


def compare(folder: Path, items: int, speaker: str, context: str, peer: str | None) -> None:
    mine = measure(sys.executable, "ours", folder, speaker, context)
    line = f"{items} items, {speaker} speaker, {context} context: {mine['cells']} cells, {mine['seconds']:.2f} s, "
    line += f"{mine['peak'] / 2**30:.2f} GiB"
    if peer:
        other = measure(peer, "fastabx", folder, speaker, context)
        line += (
            f"; fastabx {other['seconds']:.2f} s, {other['peak'] / 2**30:.2f} GiB: "
            f"{other['seconds'] / mine['seconds']:.2f} times faster, {mine['peak'] / other['peak']:.2f} of the memory, "
            f"errors {mine['error']:.6f} and {other['error']:.6f}"
        )
    print(line, flush=True)


def scaling(picture: Path) -> None:
    """Print and draw seconds, pairs of items and triplets over the number of items; across speakers, within context."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = []
    for items in SIZES:
        with tempfile.TemporaryDirectory() as name:
            generate(Path(name), items)
            found = measure(sys.executable, "ours", Path(name), "across", "within")
            rows.append((items, found["seconds"], item_pairs(Path(name), "across", "within"), found["triplets"]))
        print(f"{items} items: {rows[-1][1]:.2f} s, {rows[-1][2]} pairs of items, {rows[-1][3]} triplets", flush=True)
    figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
    sizes = [row[0] for row in rows]
    for label, column, style in (("seconds", 1, "o-"), ("pairs of items", 2, "s--"), ("triplets", 3, "^:")):
        values = [row[column] for row in rows]
        axes.loglog(sizes, [value / values[0] for value in values], style, label=label)
    axes.set_xlabel("items")
    axes.set_ylabel(f"times those of {SIZES[0]:,} items")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    main()
