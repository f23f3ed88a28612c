"""One clip: several sounds at once over a background, and which of them can be heard."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.corpora.soundscape.dsp import noise
from w2v_abx.corpora.soundscape.sounds import synthesise

__all__ = ["audible", "compose", "level"]

Samples: TypeAlias = NDArray[np.float64]

CEILING = 0.98  # greatest magnitude of a sample
AUDIBLE_SHARE = 0.25  # of a sound's energy
FRAME, HOP = 512, 256  # samples
WINDOW = signal.get_window("hann", FRAME).astype(np.float32)
# A fifth of an octave each, as the ear's, but not below one bin (31 Hz).
BAND_BINS = np.unique(np.round(np.geomspace(2, FRAME // 2, 33)).astype(int))


def level(samples: NDArray[np.floating]) -> float:
    """Level in dB re full scale: the loudest 125 ms' root mean square, as a sound level meter's "fast" maximum.

    A mean over the whole event would say that a clock, which is mostly silence, is quieter than it sounds.
    """
    width = min(SAMPLE_RATE // 8, len(samples))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    return float(10 * np.log10(max(np.max(energy[width:] - energy[:-width]) / width, 1e-20)))


def audible(layers: Sequence[Samples]) -> list[bool]:
    """For each of the layers (T,) of a clip, whether it is heard beside all the others.

    It is when a quarter of its energy or more lies where it is at least as strong as the others together, on a grid of
    16 ms by a fifth of an octave: the ideal binary mask at 0 dB (Wang, 2005) keeps that much of it.
    """
    cells = np.stack([_cells(layer) for layer in layers])
    others = cells.sum(axis=0) - cells
    kept = np.where(cells >= others, cells, 0.0).sum(axis=(1, 2))
    return [bool(share > 0) for share in kept - AUDIBLE_SHARE * cells.sum(axis=(1, 2))]


def compose(
    categories: Sequence[str],
    rng: np.random.Generator,
    *,
    seconds: float,
    duration: Sequence[float],
    onset: Sequence[float],
    snr: Sequence[float],
    background: Sequence[float],
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """A clip of so many seconds with one sound of each of the (distinct) categories: its samples (T,), its labels.

    A sound starts within the range ``onset`` (s), or as late as it still fits. Its level lies ``snr`` (dB) above that
    of the ``background`` (dB, see `level`). Should the sum clip, all of it is turned down alike; the levels given are
    those in the samples.
    """
    total = round(seconds * SAMPLE_RATE)
    floor = float(rng.uniform(background[0], background[1]))
    tilt = rng.uniform(0.3, 1.0)
    layers = [_at_level(noise(total, rng, lambda f: np.maximum(f, 30.0) ** -tilt), floor)]
    drawn = []
    for category in categories:
        # Whole hundredths, so that the labels are exact.
        length = round(float(rng.uniform(duration[0], duration[1])), 2)
        latest = max(onset[0], min(onset[1], seconds - length))
        begin = round(float(rng.uniform(onset[0], latest)), 2)
        start = round(begin * SAMPLE_RATE)
        # Rounding to hundredths may reach beyond the end by one.
        sound = synthesise(category, length, rng)[: total - start]
        decibels = floor + float(rng.uniform(snr[0], snr[1]))
        layer = np.zeros(total)
        layer[start : start + len(sound)] = _at_level(sound.astype(np.float64), decibels)
        layers.append(layer)
        drawn.append((begin, (start + len(sound)) / SAMPLE_RATE, category, decibels))
    mixture = np.sum(layers, axis=0)
    turn_down = min(1.0, CEILING / float(np.abs(mixture).max()))
    change = 20 * np.log10(turn_down)
    events = [
        ([begin, round(end, 4), category, round(decibels + change, 2)], is_heard)
        for (begin, end, category, decibels), is_heard in zip(drawn, audible(layers)[1:], strict=True)
    ]
    events.sort(key=lambda pair: (pair[0][0], pair[0][2]))
    heard = [event for event, is_heard in events if is_heard]
    return (mixture * turn_down).astype(np.float32), {
        "labels": sorted(str(event[2]) for event in heard),
        "events": heard,
        "masked": [event for event, is_heard in events if not is_heard],
        "background": round(floor + change, 2),
    }


def _at_level(samples: Samples, decibels: float) -> Samples:
    return samples * 10 ** ((decibels - level(samples)) / 20)


def _cells(samples: Samples) -> Samples:
    """Energy per frame and band, (frames, bands)."""
    padded = np.pad(samples.astype(np.float32), (FRAME // 2, FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    spectra = fft.rfft(frames * WINDOW)
    power = spectra.real**2 + spectra.imag**2
    # No matrix product: its rounding depends on the number of threads.
    return np.add.reduceat(power, BAND_BINS[:-1], axis=1).astype(np.float64)
