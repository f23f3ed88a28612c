"""Mix noise into clips at a given signal-to-noise ratio."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from w2v_abx.clips import SPLITS
from w2v_abx.config import unwrap
from w2v_abx.data.corpus import PreparedCorpus, read_manifest
from w2v_abx.data.crops import seeded
from w2v_abx.errors import InputError
from w2v_abx.shards.cache import Cache
from w2v_abx.shards.places import Place
from w2v_abx.system.checks import number, several

__all__ = ["Noise", "NoiseSetting"]

MEMORY_BYTES = 1 << 28  # of decoded noise that is held
MAX_DECIBELS = 100.0  # beyond what float32 samples can hold together


@dataclass(frozen=True)
class NoiseSetting:
    """The keys of the config group ``noise``.

    Args:
        folder: a prepared folder of noise, or an address of a copy of it.
        snr: the ratio of a clip's power to that of its noise in dB; several: one is drawn for each clip.
        splits: those whose clips get noise.

    Raises:
        InputError: values out of range.
    """

    folder: str
    snr: float | list[float]
    splits: list[str]

    def __post_init__(self) -> None:
        if isinstance(self.snr, list) and not self.snr:
            raise InputError("noise.snr=[] must have a number of dB, or noise=null for none")
        for level in self.levels:
            number("noise.snr", level, low=-MAX_DECIBELS, high=MAX_DECIBELS, unit="dB")
        several("noise.splits", self.splits, SPLITS)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "NoiseSetting | None":
        """Read the settings of a run's config; None: no noise."""
        group = unwrap(config.get("noise"))
        return None if group is None else cls(group["folder"], group["snr"], group["splits"])

    @property
    def levels(self) -> list[float]:
        """The ratios that are drawn from, in dB."""
        return self.snr if isinstance(self.snr, list) else [self.snr]


class Noise:
    """The noise of the clips of one split: a function of the seed and of what names a clip and its place in training.

    Each clip gets a span of one noise clip, from anywhere in it on and round its end as often as it takes. What is
    decoded stays in memory within `MEMORY_BYTES`, or one noise clip.
    """

    def __init__(self, corpus: PreparedCorpus, levels: Sequence[float], seed: int) -> None:
        self.corpus, self.levels, self.seed = corpus, tuple(levels), seed
        bytes_each = int(corpus.lengths.max()) * np.dtype(np.float32).itemsize
        self._clip = lru_cache(max(1, MEMORY_BYTES // bytes_each))(self._decoded)

    @classmethod
    def of(cls, setting: NoiseSetting | None, split: str, cache: Cache | None, seed: int) -> "Noise | None":
        """Open the noise of a split's clips, where it is to have some: the folder's split of that name, or its first.

        Raises:
            InputError: the folder is no prepared one, or damaged.
        """
        if setting is None or split not in setting.splits:
            return None
        place = Place(setting.folder)
        manifest = read_manifest(place)
        held = [name for name, sizes in manifest.splits.items() if sizes["clips"]]
        own = split if split in held else held[0]
        return cls(PreparedCorpus.of(manifest.corpus, place, manifest, own, None, cache=cache), setting.levels, seed)

    @property
    def identity(self) -> list[Any]:
        """What the noise depends on beside the seed and the clips."""
        return [list(self.levels), self.corpus.index.manifest.listing, self.corpus.content]

    def mix(self, samples: np.ndarray, *clip: object) -> None:
        """Add noise to a clip's samples, (T,) float32, in place; a silent clip, which has no ratio to it, stays silent.

        The sum may go beyond full scale. ``clip``: what the draw is a function of.
        """
        power = _power(samples)
        if not power:
            return
        generator = seeded("noise", self.seed, *clip)
        noise = self._clip(int(generator.integers(len(self.corpus.lengths))))
        start = int(generator.integers(len(noise)))
        decibels = self.levels[int(generator.integers(len(self.levels)))]
        span = _span(noise, start, len(samples))
        if not _power(span):  # a pause: from its end on
            span = _span(noise, start + int(np.flatnonzero(_span(noise, start, len(noise)))[0]), len(samples))
        samples += np.float32(np.sqrt(power / _power(span) / 10 ** (decibels / 10))) * span

    def _decoded(self, number: int) -> np.ndarray:
        (sample,) = self.corpus.read(np.array([number]))
        noise = sample.decode()
        if not noise.any():
            raise InputError(f"{sample.shard}: the noise clip {sample.key} is silent: prepare the folder without it")
        return noise


def _span(noise: np.ndarray, start: int, length: int) -> np.ndarray:
    return np.take(noise, np.arange(start, start + length), mode="wrap")


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))
