"""The few signal generators that the synthesisers are made of, all of them pure functions.

Lengths ``n`` are in samples at 16 kHz, frequencies in Hz, times in seconds, signals float64 of any scale.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal
from scipy.interpolate import PchipInterpolator

from w2v_abx.audio import SAMPLE_RATE

__all__ = [
    "Signal",
    "add",
    "band",
    "damped",
    "envelope",
    "every",
    "moving_noise",
    "noise",
    "periodic",
    "place",
    "poisson",
    "seconds",
    "tone",
    "wander",
]

Signal: TypeAlias = NDArray[np.float64]

FRAME, HOP = 1024, 256  # samples


def seconds(n: int) -> Signal:
    """The time of each of n samples, (n,) s."""
    return np.arange(n) / SAMPLE_RATE


def band(frequency: Signal, low: float, high: float | Signal, slope: float = 2.0) -> Signal:
    """Gain of a smooth band pass between two corners, falling 6·slope dB per octave outside."""
    ratio = np.maximum(frequency, 1.0)
    return 1 / np.sqrt((1 + (low / ratio) ** (2 * slope)) * (1 + (ratio / high) ** (2 * slope)))


def noise(n: int, rng: np.random.Generator, gain: Callable[[Signal], Signal]) -> Signal:
    """Gaussian noise (n,) whose magnitude spectrum is ``gain(frequency)``."""
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(rng.standard_normal(size))
    return fft.irfft(spectrum * gain(fft.rfftfreq(size, 1 / SAMPLE_RATE)), size)[:n]


def moving_noise(n: int, rng: np.random.Generator, gain: Callable[[Signal, Signal], Signal]) -> Signal:
    """Gaussian noise (n,) whose spectrum moves: ``gain(frequency (1, F), time (T, 1))`` is (T, F), by overlap-add."""
    frames = n // HOP + FRAME // HOP
    window = signal.get_window("hann", FRAME) ** 0.5
    white = rng.standard_normal((frames - 1) * HOP + FRAME)
    spectra = fft.rfft(np.lib.stride_tricks.sliding_window_view(white, FRAME)[::HOP] * window)
    # The first frame starts a frame before the signal, so that every sample lies under four windows.
    times = (np.arange(frames) * HOP - FRAME / 2) / SAMPLE_RATE
    spectra *= gain(fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)[None, :], np.maximum(times, 0)[:, None])
    frames_of_noise = fft.irfft(spectra, FRAME) * window
    out = np.zeros((frames + FRAME // HOP - 1, HOP))
    for part in range(FRAME // HOP):
        out[part : part + frames] += frames_of_noise[:, part * HOP : (part + 1) * HOP]
    return out.ravel()[FRAME - HOP :][:n]


def wander(n: int, rng: np.random.Generator, rate: float, low: float, high: float) -> Signal:
    """A smooth random curve (n,) within [low, high] that turns about ``rate`` times a second."""
    knots = rng.uniform(low, high, int(np.ceil(n / SAMPLE_RATE * rate)) + 3)
    # Evaluated every 10 ms and joined by straight lines: the curve is slow, and this is ten times as fast.
    coarse = np.arange(0, n + 160, 160)
    curve = PchipInterpolator(np.arange(len(knots)), knots)(rng.uniform() + coarse / SAMPLE_RATE * rate)
    return np.interp(np.arange(n), coarse, curve)


def tone(frequency: Signal) -> Signal:
    """A sine (n,) of the momentary frequency (n,)."""
    return np.sin(2 * np.pi / SAMPLE_RATE * np.cumsum(frequency))


def periodic(frequency: Signal, amplitudes: Sequence[float] | Signal, phases: Signal | None = None) -> Signal:
    """Harmonics k = 1, 2, … with these amplitudes of the momentary frequency (n,), without those that would alias."""
    kept = np.asarray(amplitudes, dtype=np.float64)[: max(1, int(7800 / frequency.max()))]
    size = 2048
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    angles = -np.pi / 2 if phases is None else phases[: len(kept)]
    spectrum[1 : len(kept) + 1] = kept * np.exp(1j * angles) * size / 2
    cycle = fft.irfft(spectrum, size)
    position = np.cumsum(frequency) * (size / SAMPLE_RATE)
    index = position.astype(np.int64)
    start = cycle[index % size]
    return start + (position - index) * (cycle[(index + 1) % size] - start)


def damped(
    frequencies: Sequence[float] | Signal, decays: Sequence[float] | Signal, amplitudes: Sequence[float] | Signal
) -> Signal:
    """A struck object: sines that decay by 60 dB within ``decays`` seconds, starting at zero."""
    time = seconds(int(max(decays) * SAMPLE_RATE) + 1)
    out = np.zeros_like(time)
    for frequency, decay, amplitude in zip(frequencies, decays, amplitudes, strict=True):
        part = time[: int(decay * SAMPLE_RATE) + 1]
        out[: len(part)] += amplitude * np.exp(-6.9 / decay * part) * np.sin(2 * np.pi * frequency * part)
    return out


def every(n: int, rng: np.random.Generator, interval: float, jitter: float = 0.0) -> Signal:
    """Times in s, about ``interval`` apart (relative standard deviation ``jitter``), the first near the beginning."""
    count = int(n / SAMPLE_RATE / interval * (1 + 3 * jitter)) + 2
    steps = interval * np.maximum(1 + jitter * rng.standard_normal(count), 0.3)
    times = min(0.05, interval / 4) * rng.uniform() + np.concatenate([[0.0], np.cumsum(steps[1:])])
    return times[times < n / SAMPLE_RATE]


def poisson(n: int, rng: np.random.Generator, rate: float) -> Signal:
    """Sorted times in s of events that happen independently, ``rate`` a second; never none."""
    count = max(1, rng.poisson(rate * n / SAMPLE_RATE))
    return np.sort(rng.uniform(0, n / SAMPLE_RATE, count))


def add(out: Signal, at: float, grain: Signal) -> None:
    """Add a grain (g,) to a signal in place, from ``at`` s on; what reaches beyond the signal's end is cut."""
    begin = int(at * SAMPLE_RATE)
    part = grain[: max(0, len(out) - begin)]
    out[begin : begin + len(part)] += part


def place(n: int, times: NDArray[np.floating], grain: Signal, amplitudes: NDArray[np.floating] | float = 1.0) -> Signal:
    """The grain (g,) at each time, scaled: (n,), what reaches beyond n being cut."""
    amplitudes = np.broadcast_to(amplitudes, times.shape)
    if len(times) * len(grain) < 40 * n:
        out = np.zeros(n)
        for at, amplitude in zip(times, amplitudes, strict=True):
            add(out, at, amplitude * grain)
        return out
    # Many: one convolution, the times kept between samples so that fast trains do not sound rough.
    at = times * SAMPLE_RATE
    low = at.astype(np.int64)
    impulses = np.zeros(max(n, int(low.max())) + 2)
    np.add.at(impulses, low, amplitudes * (1 - (at - low)))
    np.add.at(impulses, low + 1, amplitudes * (at - low))
    return signal.fftconvolve(impulses, grain)[:n]


def envelope(n: int, rise: float, fall: float) -> Signal:
    """A raised-cosine rise and fall (s) around a plateau of one, (n,)."""
    out = np.ones(n)
    up, down = min(n // 2, round(rise * SAMPLE_RATE)), min(n // 2, round(fall * SAMPLE_RATE))
    out[:up] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(up) + 0.5) / max(up, 1))
    out[n - down :] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(down) + 0.5) / max(down, 1))
    return out
