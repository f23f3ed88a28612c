"""Noise in files, and corpora of clips that are given."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from w2v_abx.clips import Clip


@dataclass
class Fixed:
    """A corpus of given clips."""

    given: list[Clip]
    name: str = "fixed"

    def clips(self) -> list[Clip]:
        return self.given


@dataclass
class Sounds:
    """Noise in files, and the clips that name them."""

    root: Path
    clips: list[Clip] = field(default_factory=list)

    def add(self, key: str, seconds: float = 0.1, split: str = "train", **labels: Any) -> None:
        path = self.root / f"{len(self.clips):03d}.wav"
        generator = np.random.default_rng(len(self.clips))
        sf.write(path, 0.1 * generator.standard_normal(round(seconds * 16000)), 16000)
        self.clips.append(Clip(key, path, split=split, labels=labels, source="noise", licence="CC0"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
