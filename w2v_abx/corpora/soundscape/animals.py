"""Birds, insects and frogs: frequency-modulated tones, wing beats and pulse trains."""

import numpy as np

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.corpora.soundscape import dsp
from w2v_abx.corpora.soundscape.dsp import Signal

__all__ = ["buzz", "chirp", "cricket", "croak", "hoot"]


def chirp(n: int, rng: np.random.Generator) -> Signal:
    """A song bird: a motif of quick whistled sweeps between 2 and 7 kHz, sung again and again."""
    base = rng.uniform(2800, 4600)
    motif, gap = [], rng.uniform(0.02, 0.06)
    for _ in range(rng.integers(2, 5)):
        size = int(rng.uniform(0.04, 0.14) * SAMPLE_RATE)
        x = np.linspace(0, 1, size)
        start, end = base * 2 ** rng.uniform(-0.4, 0.5, 2)
        bend = rng.uniform(-0.35, 0.35) * 4 * x * (1 - x)
        pitch = np.clip(start * (end / start) ** x * 2**bend, 1900, 7200)
        octave = 0.08 * np.clip((7600 - 2 * pitch) / 500, 0, 1) * dsp.tone(2 * pitch)
        syllable = (dsp.tone(pitch) + octave) * dsp.envelope(size, 0.012, 0.02)
        motif += [syllable * rng.uniform(0.6, 1.0)] * int(rng.integers(1, 4))
    pause = np.zeros(int(gap * SAMPLE_RATE))
    song = np.concatenate([part for syllable in motif for part in (syllable, pause)])
    times = dsp.every(n, rng, len(song) / SAMPLE_RATE + rng.uniform(0.1, 0.5), 0.04)
    return dsp.place(n, times, song, rng.uniform(0.8, 1.0, len(times)))


def hoot(n: int, rng: np.random.Generator) -> Signal:
    """An owl: a long soft "hoo" and, after a pause, a second one that quavers and falls, at 300 to 480 Hz."""
    pitch, breath = rng.uniform(300, 480), rng.uniform(0.01, 0.03)
    lengths, pause = rng.uniform(0.35, 0.5), rng.uniform(0.12, 0.25)
    calls = []
    for length, quaver, fall in ((lengths, 0.0, 0.03), (lengths * rng.uniform(1.2, 1.6), rng.uniform(0.2, 0.5), 0.09)):
        size = int(length * SAMPLE_RATE)
        x = np.linspace(0, 1, size)
        # The pitch arches: up into the hoot and down out of it.
        frequency = pitch * (0.94 + 0.06 * np.sin(np.pi * np.minimum(x * 1.6, 1) / 2) - fall * x**2)
        beat = 1 - quaver * (0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(9, 13) * x * length))
        voice = dsp.periodic(frequency, [1.0, 0.06, 0.03]) * beat
        air = dsp.noise(size, rng, lambda f: np.exp(-(((f - pitch) / (0.4 * pitch)) ** 2)))
        calls += [
            (voice + breath * air / air.std()) * dsp.envelope(size, 0.12, 0.16),
            np.zeros(int(pause * SAMPLE_RATE)),
        ]
    phrase = np.concatenate(calls)
    return dsp.place(n, dsp.every(n, rng, len(phrase) / SAMPLE_RATE + rng.uniform(0.3, 0.9), 0.05), phrase)


def croak(n: int, rng: np.random.Generator) -> Signal:
    """A frog: rasping calls, each a train of 35 to 65 pulses a second through two resonances of its throat."""
    rate, throat = rng.uniform(35, 65), rng.uniform(500, 900)
    pulse = dsp.damped([throat, throat * rng.uniform(2.0, 2.8)], [0.03, 0.02], [1.0, 0.6])
    size = int(rng.uniform(0.22, 0.45) * SAMPLE_RATE)
    train = dsp.every(size, rng, 1 / rate, 0.03)
    # Pulses come slightly faster towards the end of the call.
    train *= 1 - 0.12 * train / train[-1]
    call = dsp.place(size, train, pulse, rng.uniform(0.8, 1.0, len(train))) * dsp.envelope(size, 0.08, 0.06)
    times = dsp.every(n, rng, size / SAMPLE_RATE + rng.uniform(0.15, 0.5), 0.08)
    return dsp.place(n, times, call, rng.uniform(0.75, 1.0, len(times)))


def cricket(n: int, rng: np.random.Generator) -> Signal:
    """A field cricket: chirps of three or four pure pulses at 4 to 5.5 kHz, two or three chirps a second."""
    carrier, length = rng.uniform(4000, 5500), rng.uniform(0.015, 0.022)
    size = int(length * SAMPLE_RATE)
    # Each pulse slides down a little as the wing slows.
    pulse = dsp.tone(carrier * np.linspace(1.02, 0.96, size)) * dsp.envelope(size, 0.6 * length, 0.4 * length)
    syllables = np.arange(rng.integers(3, 5)) * length * rng.uniform(1.7, 2.1)
    rise = np.linspace(0.5, 1.0, len(syllables))
    call = dsp.place(int((syllables[-1] + 2 * length) * SAMPLE_RATE), syllables, pulse, rise)
    times = dsp.every(n, rng, 1 / rng.uniform(2.0, 3.2), 0.03)
    return dsp.place(n, times, call, rng.uniform(0.85, 1.0, len(times)))


def buzz(n: int, rng: np.random.Generator) -> Signal:
    """A fly or bee on the wing: dozens of harmonics of its wing beat (130 to 280 Hz), drifting as it turns."""
    beat = rng.uniform(140, 260) * dsp.wander(n, rng, 2.5, 0.93, 1.07) * (1 + 0.004 * dsp.wander(n, rng, 25, -1, 1))
    k = np.arange(1, 41)
    colour = rng.uniform(5, 9)
    weights = k**-0.8 + 0.35 * np.exp(-(((k - colour) / 2.5) ** 2))
    wings = dsp.periodic(beat, weights * rng.uniform(0.6, 1.0, len(k)), rng.uniform(0, 2 * np.pi, len(k)))
    near = dsp.wander(n, rng, 0.8, 0.3, 1.0)
    return wings * near * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(11, 17) * dsp.seconds(n)))
