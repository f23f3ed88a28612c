"""Integrated loudness by ITU-R BS.1770-4, as EBU R 128 uses it."""

import math
from functools import cache

import numpy as np

__all__ = ["integrated"]

BLOCK_SECONDS, OVERLAP = 0.4, 4  # s; blocks start every BLOCK_SECONDS / OVERLAP
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS, LU
OFFSET = -0.691  # makes a full-scale 997 Hz sine in one channel read -3.01 LUFS


def integrated(samples: np.ndarray, rate: int) -> float:
    """Gated loudness in LUFS of one channel (T,) at ``rate`` Hz.

    BS.1770 measures in blocks of 400 ms: a shorter clip is one block of its own length. Where every block lies below
    the absolute gate of −70 LUFS, all of them count, ungated. −∞ for digital silence.
    """
    # torchaudio.functional.loudness clips inside its filter: a full-scale sine at 4 kHz reads 2.4 LU too low.
    from scipy.signal import sosfilt

    energy = np.cumsum(np.concatenate([[0.0], sosfilt(_weighting(rate), np.asarray(samples, np.float64)) ** 2]))
    block = min(round(BLOCK_SECONDS * rate), len(samples))
    starts = np.arange(0, len(samples) - block + 1, max(1, block // OVERLAP))
    blocks = (energy[starts + block] - energy[starts]) / block
    loud = blocks[blocks > _power(ABSOLUTE_GATE)]
    if len(loud):
        blocks = loud[loud > loud.mean() * 10 ** (RELATIVE_GATE / 10)]
    mean = float(blocks.mean())
    return OFFSET + 10 * math.log10(mean) if mean > 0 else -math.inf


def _power(loudness: float) -> float:
    return 10 ** ((loudness - OFFSET) / 10)


@cache
def _weighting(rate: int) -> np.ndarray:
    """The K-weighting of BS.1770-4 (two second-order sections (2, 6)) at any rate.

    The standard gives coefficients for 48 kHz alone; these are their analogue prototypes (a shelf of 4 dB at 1682 Hz, a
    high-pass at 38 Hz) through the bilinear transform, equal to the standard's to 8 digits at 48 kHz.
    """
    gain, quality, k = 10 ** (3.999843853973347 / 20), 0.7071752369554196, math.tan(math.pi * 1681.974450955533 / rate)
    middle = gain**0.4996667741545416
    shelf = np.array([gain + middle * k / quality + k * k, 2 * (k * k - gain), gain - middle * k / quality + k * k])
    shelf = np.concatenate([shelf, [1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]])

    def denominator(rate: int) -> np.ndarray:
        quality, k = 0.5003270373238773, math.tan(math.pi * 38.13547087602444 / rate)
        return np.array([1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k])

    # The standard leaves this numerator at 1, -2, 1: its pass-band gain at 48 kHz is part of the definition.
    high_pass = np.concatenate([np.array([1.0, -2.0, 1.0]) * denominator(48_000)[0], denominator(rate)])
    return np.stack([shelf / shelf[3], high_pass / high_pass[3]])
