"""A miniature AudioSet: ontology, segment lists in the published layout, recordings."""

import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from w2v_abx.corpora.audioset import AudioSet, Choice, Fetching

HEADER = (
    "# Segments csv created Sun Mar  5 10:54:25 2017\n"
    "# num_ytids=3, num_segs=3, num_unique_labels=6, num_positive_labels=4\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)
DOG, BARK, HOWL, RAIN, VOICE, SPEECH, MUSIC = (
    "/m/dog",
    "/m/bark",
    "/t/howl",
    "/m/rain",
    "/m/voice",
    "/m/speech",
    "/m/music",
)
NAMES = {
    DOG: "Dog",
    BARK: "Bark",
    HOWL: "Howl, whine",
    RAIN: "Rain",
    VOICE: "Human voice",
    SPEECH: "Speech",
    MUSIC: "Music",
}
CHILDREN = {DOG: [BARK, HOWL], VOICE: [SPEECH, HOWL]}  # Howl has two parents
RATE = 16_000

Row = tuple[str, float, float, Iterable[str]]


def ontology(path: Path) -> Path:
    entries = [{"id": mid, "name": name, "child_ids": CHILDREN.get(mid, [])} for mid, name in NAMES.items()]
    path.write_text(json.dumps(entries))
    return path


def segments(path: Path, rows: Iterable[Row]) -> Path:
    lines = (f'{video}, {start:.3f}, {end:.3f}, "{",".join(mids)}"\n' for video, start, end, mids in rows)
    path.write_text(HEADER + "".join(lines))
    return path


def wanted(path: Path, *mids: str) -> Path:
    path.write_text("mid,display_name\n" + "".join(f'{mid},"{NAMES[mid]}"\n' for mid in mids))
    return path


def video(number: int) -> str:
    """An id as YouTube's: eleven characters, ``-`` and ``_`` among them."""
    return f"-v_{number:08d}"


def noise(path: Path, number: int, seconds: float = 6.0, rate: int = RATE) -> np.ndarray:
    samples = np.random.default_rng(number).normal(0, 0.1, round(seconds * rate)).astype(np.float32)
    sf.write(path, samples, rate)
    return samples


def corpus(folder: Path, rows: Iterable[Row], evaluation: Iterable[Row] = (), **settings: Any) -> AudioSet:
    """AudioSet in ``folder/root``, its lists there already; ``settings`` are its own, `Choice`'s and `Fetching`'s."""
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    ontology(root / "ontology.json")
    segments(root / "train.csv", rows)
    lists = {"eval.csv": "http://none.invalid/eval.csv"} if evaluation else {}
    if evaluation:
        segments(root / "eval.csv", evaluation)
    choice = {key: settings.pop(key) for key in list(settings) if key in Choice.__dataclass_fields__}
    fetching = {key: settings.pop(key) for key in list(settings) if key in Fetching.__dataclass_fields__}
    fetching = {"requests_per_minute": None, "backoff": 0.05, "timeout": 2.0, "workers": 2} | fetching
    return AudioSet(
        "mini",
        root,
        ontology="http://none.invalid/ontology.json",
        train={"train.csv": "http://none.invalid/train.csv"},
        evaluation=lists,
        categories=settings.pop("categories", wanted(folder / "wanted.csv", DOG, BARK, RAIN)),
        choice=Choice(**{"exclude": (VOICE,)} | choice),
        fetching=Fetching(**fetching),
        **settings,
    )


def fetch_some(folder: Path, rows: Iterable[Row], url: str, keys: Collection[str]) -> None:
    """What another process does: fetch the clips of these keys, as slowly as the server likes."""
    os.environ |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    made = corpus(folder, rows, url=url, timeout=60.0)
    made.fetch([clip for clip in made.clips() if clip.key in keys])
