"""What is done to a clip once it is decoded: offset, silence, clipping, level."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from w2v_abx.audio.encoding import SAMPLE_RATE
from w2v_abx.audio.error import AudioError
from w2v_abx.system.checks import boolean, choice, number

__all__ = ["Cleaning", "Level", "check_clipping", "clean", "clipped"]

Level = Literal["none", "peak", "rms", "r128"]
TARGET_PEAK, TARGET_RMS = 10 ** (-1 / 20), 10 ** (-25 / 20)
TARGET_LUFS = -23.0  # LUFS, EBU R 128
FULL_SCALE = 32767 / 32768  # the largest value of 16 bits
BLOCK, KEPT = SAMPLE_RATE // 100, 2  # samples whose loudness is taken together; blocks that stay on either side
RUN = 3  # samples in a row at full scale count as clipped; one or two are a peak
MAX_PEAK = 4.0  # lossy codecs and resampling overshoot 1 a little; more means another scale


@dataclass(frozen=True)
class Cleaning:
    """How a decoded span becomes a clip; raises `InputError` for a value out of range.

    Args:
        level: "none" leaves it; "peak" scales the peak to −1 dBFS, "rms" the root mean square to −25 dBFS, "r128" the
            loudness of the mono clip to −23 LUFS (EBU R 128; see `w2v_abx.audio.loudness`). The last two scale less
            where the peak would pass full scale.
        remove_dc: subtract the span's mean, before its level is measured.
        silence_dbfs: a span that varies by less (half the distance from its lowest to its highest sample, dB re full
            scale; −200 to 0) is refused as silent. −90 is about one step of 16-bit audio.
        trim: leave out what comes before the first and after the last 10 ms that are within so many dB of the loudest,
            but for 20 ms; before the level is measured. None: nothing. Not for clips with timed labels.
        max_clipped: largest allowed share of samples in flat runs at full scale, see `clipped`; None: not looked at.
    """

    level: Level = "none"
    remove_dc: bool = False
    silence_dbfs: float = -90.0
    trim: float | None = None
    max_clipped: float | None = None

    def __post_init__(self) -> None:
        choice("prepare.level", self.level, get_args(Level))
        boolean("prepare.remove_dc", self.remove_dc)
        number("prepare.silence_dbfs", self.silence_dbfs, low=-200, high=0, hint="it is a level in dBFS")
        number("prepare.trim", self.trim, above=0, optional="to leave out nothing", unit="dB")
        hint = "it is the share of samples"
        number("prepare.max_clipped", self.max_clipped, low=0, high=1, optional="for no check", hint=hint)

    @property
    def settings(self) -> dict[str, Any]:
        """What shards are known by; without ``trim`` where nothing is trimmed: shards older than it stay good."""
        return {key: value for key, value in asdict(self).items() if key != "trim" or value is not None}


def clipped(frames: np.ndarray) -> float:
    """Share of samples in runs of three or more at one end of full scale, in the worst channel of frames (T, C)."""
    ends = (frames >= FULL_SCALE).astype(np.int8) - (frames <= -FULL_SCALE)
    run = (ends[RUN - 1 :] != 0) & np.logical_and.reduce(
        [ends[i : len(ends) - RUN + 1 + i] == ends[RUN - 1 :] for i in range(RUN - 1)]
    )
    inside = np.zeros(ends.shape, dtype=bool)
    for i in range(RUN):
        inside[i : len(ends) - RUN + 1 + i] |= run
    return float(inside.mean(axis=0).max())


def check_clipping(frames: np.ndarray, path: Path, cleaning: Cleaning) -> None:
    """Raise `AudioError` (clipped) for decoded frames (T, C) beyond what ``cleaning`` allows.

    Before channels are averaged and resampled, because both hide it.
    """
    if cleaning.max_clipped is not None and len(frames) >= RUN and (share := clipped(frames)) > cleaning.max_clipped:
        message = (
            f"{share:.2%} of its samples are clipped, more than prepare.max_clipped={cleaning.max_clipped:g} allows"
        )
        raise AudioError(path, "clipped", message)


def clean(samples: np.ndarray, path: Path, cleaning: Cleaning) -> np.ndarray:
    """The clip (T,) float32 of a mono span at 16 kHz; raises `AudioError` (silent, over_range)."""
    if cleaning.remove_dc:
        samples = samples - np.float32(samples.mean(dtype=np.float64))
    if np.ptp(samples) < 2 * 10 ** (cleaning.silence_dbfs / 20):
        level = f"{cleaning.silence_dbfs:g}".replace("-", "−")
        raise AudioError(path, "silent", f"is silent in the asked stretch (it varies by less than {level} dBFS)")
    if cleaning.trim is not None:
        samples = samples[_loud(samples, cleaning.trim)]
    peak = float(np.abs(samples).max())
    if cleaning.level != "none":
        return samples * np.float32(_gain(samples, peak, cleaning.level))
    if peak > MAX_PEAK:
        raise AudioError(
            path, "over_range", f"peaks at {peak:.3g} where full scale is 1: scale it, or set prepare.level=peak"
        )
    return np.clip(samples, -1, 1)


def _loud(samples: np.ndarray, decibels: float) -> slice:
    """Find the span from the first to the last block that is so loud, and what is kept around it."""
    starts = np.arange(0, len(samples), BLOCK)
    energy = np.add.reduceat(np.square(samples, dtype=np.float64), starts) / np.diff([*starts, len(samples)])
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-decibels / 10))
    return slice(max(0, loud[0] - KEPT) * BLOCK, (loud[-1] + 1 + KEPT) * BLOCK)


def _gain(samples: np.ndarray, peak: float, level: Level) -> float:
    if level == "peak":
        return TARGET_PEAK / peak
    if level == "rms":
        return min(TARGET_RMS / float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), 1 / peak)
    from w2v_abx.audio.loudness import integrated

    return min(10 ** ((TARGET_LUFS - max(integrated(samples, SAMPLE_RATE), -1000.0)) / 20), 1 / peak)
