"""Clusters of frames read from a file, beside scikit-learn's mini-batch k-means of the same frames in memory.

    python benchmarks/clusters.py
    python benchmarks/clusters.py --frames 1000000 --dims 768 --k 100

Frames stay near one of 200 places for ten frames each, in a memory-mapped array. Each round, this project's `group` and
scikit-learn's `MiniBatchKMeans.fit` (with as many first centres, in memory, in single precision) take turns with the
same seed. Prints processor seconds, which other work on the machine changes little, and the mean squared distance from
the centres, their ratios, and the medians: below 1 is better. Then the seconds of what chance gives the mutual
information of a table of as many points, and scikit-learn's.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics.cluster import expected_mutual_information

from w2v_abx.analysis.clustering.contingency import contingency, expected_information
from w2v_abx.analysis.clustering.kmeans import group
from w2v_abx.analysis.clustering.latents import Latents


def write_frames(path: Path, frames: int, dims: int, rng: np.random.Generator) -> None:
    """Write frames that stay near one of 200 places for ten frames, with noise of falling variance, (frames, dims)."""
    centres = rng.standard_normal((200, dims)).astype(np.float32)
    scales = (1 / np.sqrt(1 + np.arange(dims) / 10)).astype(np.float32)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (frames, dims))
    for start in range(0, frames, 10_000):
        size = min(10_000, frames - start)
        where = centres[rng.integers(0, 200, -(-size // 10)).repeat(10)[:size]]
        array[start : start + size] = (where + rng.standard_normal((size, dims), dtype=np.float32)) * scales
    array.flush()


def measure_chance(frames: int, k: int, rng: np.random.Generator) -> None:
    """Print how long the expected mutual information takes."""
    shares = rng.dirichlet(np.ones(40))
    table = contingency(rng.integers(0, k, frames), rng.choice(40, frames, p=shares), (k, 40))
    start = time.process_time()
    ours = expected_information(table.sum(1), table.sum(0))
    middle = time.process_time()
    theirs = expected_mutual_information(table, frames)
    end = time.process_time()
    print(f"what chance gives: {middle - start:.3f} s, scikit-learn {end - middle:.3f} s; {ours:.10f} {theirs:.10f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--dims", type=int, default=192)
    parser.add_argument("--k", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npy"
        write_frames(path, arguments.frames, arguments.dims, rng)
        stored = Latents("frames", np.load(path, mmap_mode="r"), np.arange(arguments.frames))
        memory = np.load(path)
        for seed in range(arguments.rounds):
            start = time.process_time()
            found = group(stored, arguments.k, "kmeans", seed)
            middle = time.process_time()
            theirs = MiniBatchKMeans(arguments.k, n_init=3, random_state=seed).fit(memory)
            seconds = middle - start, time.process_time() - middle
            distances = found.distance, theirs.inertia_ / len(memory)
            ratios.append((seconds[0] / seconds[1], distances[0] / distances[1]))
            print(
                f"seed {seed}: {seconds[0]:.2f} s and {seconds[1]:.2f} s ({ratios[-1][0]:.2f}); "
                f"distance {distances[0]:.4f} and {distances[1]:.4f} ({ratios[-1][1]:.4f})",
                flush=True,
            )
    print(f"medians: time {median(r[0] for r in ratios):.2f}, distance {median(r[1] for r in ratios):.4f}")
    measure_chance(arguments.frames, arguments.k, rng)


if __name__ == "__main__":
    main()
