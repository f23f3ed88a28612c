"""Cleaning, sharding and streaming, each beside what is usually done.

    python benchmarks/data.py               # clean, stream and rate
    python benchmarks/data.py clean --clips 200
    python benchmarks/data.py memory        # minutes: preparing and streaming 1,000 and 100,000 clips

clean: recordings (10 s, 44.1 kHz, 16-bit WAV, mono and stereo) to shards of 16 kHz mono WAVs, beside a loop of ffmpeg
processes, one for each core, that write such WAVs. stream: such clips from shards through our loader, beside a
PyTorch `Dataset` that opens a single file for each clip, in a shuffled order, with as many workers; the page cache is
emptied of their files before each turn, where the system allows it. rate: what one core streams of 10 s clips,
and how many cores a GPU would need that trains on 1,000 of them a second. memory: the largest resident memory.

Both sides take turns in one run and do the same work; the ratios are what is to be read.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import imageio_ffmpeg
import numpy as np
import polars as pl
import soundfile as sf
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.corpora.folder import Folder
from w2v_abx.data import ShardDataModule
from w2v_abx.shards import Manifest, prepare

SECONDS = 10.0
BATCH = 32
ASKED = 1000  # clips a second
PARTS = ("clean", "stream", "rate", "memory")
QUIET = Console(file=io.StringIO())


def record(folder: Path, clips: int, rate: int, channels: int, ending: str = "wav") -> list[Path]:
    """Recordings of noise; few are drawn and many written, for what is in them costs nobody more or less."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    noises = [0.1 * generator.standard_normal((round(SECONDS * rate), channels)) for _ in range(4)]
    paths = [folder / f"{number:06d}.{ending}" for number in range(clips)]
    for number, path in enumerate(paths):
        sf.write(path, noises[number % len(noises)], rate, subtype="PCM_16")
    return paths


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def forget(folder: Path) -> None:
    """Empty the page cache of a folder's files; they must be on disk for that."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def is_cold(path: Path) -> bool:
    """Whether the first read of a file goes to the disk."""
    forget(path.parent)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    path.read_bytes()
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock > before


def compare(
    name: str,
    peer: str,
    sides: dict[str, Callable[[], object]],
    rounds: int,
    clips: int,
    before: Callable[[], object] = lambda: None,
) -> None:
    """Run ours and theirs in turn, ``before`` first, which is not timed, and print both rates and their ratio."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, work in sides.items():
            before()
            times[side].append(timed(work))
    ours, theirs = (median(times[side]) for side in ("ours", "theirs"))
    each = ", ".join(f"{b / a:.2f}" for a, b in zip(times["ours"], times["theirs"], strict=True))
    print(
        f"{name}: ours {clips / ours:.0f} clips/s, {peer} {clips / theirs:.0f} clips/s, ratio {theirs / ours:.2f} "
        f"(each round: {each})",
        flush=True,
    )


def clean(folder: Path, clips: int, rounds: int) -> None:
    cores = len(os.sched_getaffinity(0))
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    for channels, name in ((1, "mono"), (2, "stereo")):
        paths = record(folder / name, clips, 44_100, channels)
        turn = iter(range(1000))

        def ours(name: str = name, turn: Iterator[int] = turn) -> None:
            prepare(Folder(name, folder / name), folder / f"shards{next(turn)}-{name}", format="wav", console=QUIET)

        def convert(path: Path, out: Path) -> None:
            target = out / path.name
            command = [ffmpeg, "-nostdin", "-v", "error", "-i", path, "-ac", "1", "-ar", str(SAMPLE_RATE), target]
            subprocess.run(command, check=True)

        def theirs(name: str = name, paths: list[Path] = paths, turn: Iterator[int] = turn) -> None:
            out = folder / f"wavs{next(turn)}-{name}"
            out.mkdir()
            with ThreadPoolExecutor(cores) as pool:
                list(pool.map(lambda path: convert(path, out), paths))

        sides: dict[str, Callable[[], object]] = {"ours": ours, "theirs": theirs}
        compare(f"cleaning, 44.1 kHz {name}, {cores} cores", "a loop of ffmpeg processes", sides, rounds, clips)


class Files(Dataset[tuple[Tensor, str]]):
    """Single WAVs, a random crop of each."""

    def __init__(self, paths: list[Path], crop: float) -> None:
        self.paths, self.length = paths, int(crop * SAMPLE_RATE)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        path = self.paths[index]
        with sf.SoundFile(path) as file:
            file.seek(int(torch.randint(file.frames - self.length + 1, ())))
            return torch.from_numpy(file.read(self.length, dtype="float32")), path.stem


def stream(folder: Path, clips: int, rounds: int, workers: int, crop: float, single: str) -> None:
    paths = record(folder / "single", clips, SAMPLE_RATE, 1, single)
    prepare(Folder("sounds", folder / "single"), folder / "stream", format="wav", console=QUIET)
    data = ShardDataModule(folder / "stream", batch_size=BATCH, crop_seconds=crop, num_workers=workers)
    kept = [folder / "single" / f"{key}.{single}" for key in train_keys(folder / "stream")]

    def ours() -> None:
        assert sum(len(batch) for batch in data.train_dataloader()) == len(kept)

    def theirs() -> None:
        loader = DataLoader(Files(kept, crop), batch_size=BATCH, shuffle=True, num_workers=workers)
        assert sum(len(keys) for _, keys in loader) == len(kept)

    cold = "cold page cache" if is_cold(paths[0]) else "warm page cache: this system does not let it be emptied"
    name = f"streaming {crop:g} s of {SECONDS:g} s clips, {workers} workers, {cold}"
    sides: dict[str, Callable[[], object]] = {"ours": ours, "theirs": theirs}
    compare(name, f"a Dataset of single {single} files", sides, rounds, len(kept), before=lambda: forget(folder))


def train_keys(folder: Path) -> list[str]:
    splits = [shard.split for shard in Manifest.read(folder).shards]
    index = pl.read_parquet(folder / "index.parquet", columns=["shard", "key"])
    return [key for shard, key in index.iter_rows() if splits[shard] == "train"]


def rate(folder: Path, clips: int, rounds: int) -> None:
    """Whole 10 s clips, 16-bit PCM, one core."""
    record(folder / "rate", clips, SAMPLE_RATE, 1)
    prepare(Folder("rate", folder / "rate"), folder / "pcm", format="wav", console=QUIET)
    data = ShardDataModule(folder / "pcm", batch_size=BATCH, crop_seconds=None)
    torch.set_num_threads(1)
    rates = []
    for _ in range(rounds):
        loader = data.train_dataloader()
        started = time.process_time()
        seen = sum(len(batch) for batch in loader)
        rates.append(seen / (time.process_time() - started))
    print(
        f"one core streams {median(rates):.0f} clips of {SECONDS:g} s per second of its time (16-bit PCM, the files "
        f"in memory): {ASKED} a second take {ASKED / median(rates):.2f} cores"
    )


MEASURE = """
import json, os, resource, sys
from pathlib import Path
import numpy as np
from rich.console import Console
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.shards import prepare
folder, clips, stage = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

class Corpus:
    name = "many"
    def clips(self):
        return [Clip(f"{i:07d}", folder / "one.wav", labels={"labels": [f"kind {i % 100}"]}) for i in range(clips)]

if __name__ == "__main__":
    if stage == "prepare":
        prepare(Corpus(), folder / str(clips), clips_per_shard=None, console=Console(file=open(os.devnull, "w")))
    else:
        for batch in ShardDataModule(folder / str(clips), batch_size=64).train_dataloader():
            pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory(folder: Path) -> None:
    sf.write(folder / "one.wav", 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE // 2), SAMPLE_RATE)
    for stage in ("prepare", "stream"):
        used = []
        for clips in (1_000, 100_000):
            command = [sys.executable, "-c", MEASURE, str(folder), str(clips), stage]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            used.append(json.loads(answer.splitlines()[-1]))
        print(
            f"{stage}: {used[0]:.0f} MiB with 1,000 clips, {used[1]:.0f} MiB with 100,000, "
            f"{(used[1] - used[0]) * 1024 / 99_000:.2f} KiB a clip"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--clips", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crop", type=float, default=SECONDS, help="seconds of a clip that are streamed")
    parser.add_argument("--single", choices=("wav", "flac"), default="wav", help="the single files' format")
    parser.add_argument("--workers", type=int, default=2, help="threads of ours, processes of the other")
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder by default")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts).difference(PARTS):
        parser.error(f"{unknown.pop()} is none of {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for part in arguments.parts or PARTS[:3]:
            if part == "clean":
                clean(folder, arguments.clips, arguments.rounds)
            elif part == "stream":
                stream(
                    folder, 4 * arguments.clips, arguments.rounds, arguments.workers, arguments.crop, arguments.single
                )
            elif part == "rate":
                rate(folder / "rates", arguments.clips, arguments.rounds)
            else:
                memory(folder)


if __name__ == "__main__":
    main()
