"""A corpus small enough to train on in a test."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from w2v_abx import audio, shards
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule

__all__ = ["Sequences", "prepared"]


class Sequences:
    """Clips of 0.5 to 1 s that change every fifth of a second between a low tone, a high tone and noise.

    Of so many clips for each split; their labels are the sounds in them.
    """

    def __init__(self, folder: Path, splits: Mapping[str, int], name: str = "sequences") -> None:
        self.folder, self.splits, self.name = folder, splits, name

    def clips(self) -> list[Clip]:
        rng = np.random.default_rng(len(self.name))
        made = []
        time = np.arange(3_200) / 16_000
        for split, count in self.splits.items():
            for number in range(count):
                noise = rng.standard_normal(3_200)
                sounds = {"low": np.sin(2 * np.pi * 200 * time), "high": np.sin(2 * np.pi * 3_000 * time)}
                chosen = rng.choice(["low", "high", "noise"], 5)
                samples = np.concatenate([sounds.get(sound, noise) for sound in chosen])
                path = self.folder / f"{self.name}_{split}{number}.wav"
                audio.save(path, (0.1 * samples[: int(rng.integers(8_000, 16_000))]).astype(np.float32))
                labels = {"labels": sorted({str(sound) for sound in chosen[:2]})}
                made.append(Clip(path.stem, path, split=split, labels=labels))
        return made


def prepared(folder: Path, splits: Mapping[str, int], name: str = "sequences", **settings: object) -> ShardDataModule:
    """The data module of such a corpus, prepared in ``folder``."""
    shards.prepare(Sequences(folder / "audio", splits, name), folder / name)
    return ShardDataModule(folder / name, **settings)  # type: ignore[arg-type]
