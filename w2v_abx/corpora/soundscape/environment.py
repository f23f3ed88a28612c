"""Weather, water and fire: shaped noise and grains."""

import numpy as np
from scipy import signal

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.corpora.soundscape import dsp
from w2v_abx.corpora.soundscape.dsp import Signal

__all__ = ["crackle", "drip", "rain", "thunder", "waves", "wind"]


def rain(n: int, rng: np.random.Generator) -> Signal:
    """A steady hiss of far drops under hundreds of near ones a second, each a click of a few milliseconds."""
    tilt, low = rng.uniform(-0.35, 0.1), rng.uniform(500, 1200)
    hiss = dsp.noise(n, rng, lambda f: (np.maximum(f, 50) / 1000) ** tilt * dsp.band(f, low, 7500))
    out = hiss * dsp.wander(n, rng, 0.7, 0.85, 1.0) / hiss.std()
    rate = rng.uniform(150, 600)
    for _ in range(12):
        times = dsp.poisson(n, rng, rate / 12)
        time = dsp.seconds(int(rng.uniform(0.002, 0.006) * SAMPLE_RATE))
        drop = rng.standard_normal(len(time)) * np.exp(-time * 900)
        drop += np.sin(2 * np.pi * rng.uniform(1500, 6500) * time) * np.exp(-time * 900)
        # Few drops fall close by: amplitudes have a heavy tail.
        out += dsp.place(n, times, drop, np.minimum(0.5 * rng.pareto(2.0, len(times)) + 0.3, 3.5))
    return out


def wind(n: int, rng: np.random.Generator) -> Signal:
    """Low-pass turbulence in gusts, and a howl (a narrow resonance) that rises and swells with each gust."""
    gust = dsp.wander(n, rng, rng.uniform(0.5, 1.2), 0.0, 1.0)[::256]
    centre, sweep = rng.uniform(220, 420), rng.uniform(0.9, 1.5)
    width, howl, tilt = rng.uniform(0.06, 0.14), rng.uniform(2.0, 4.5), rng.uniform(0.9, 1.3)

    def gain(f: Signal, t: Signal) -> Signal:
        strength = np.interp(t, np.arange(len(gust)) * 256 / SAMPLE_RATE, gust)
        octaves = np.log2(np.maximum(f, 20) / (centre * 2 ** (sweep * strength)))
        resonance = np.exp(-0.5 * (octaves / width) ** 2) + 0.5 * np.exp(-0.5 * ((octaves - 1.1) / width) ** 2)
        turbulence = (np.maximum(f, 60) / 200) ** -tilt * dsp.band(f, 110, 8000, 1.0)
        return (0.25 + strength**1.5) * (turbulence + howl * strength * resonance * (np.maximum(f, 60) / 200) ** -0.5)

    return dsp.moving_noise(n, rng, gain)


def waves(n: int, rng: np.random.Generator) -> Signal:
    """Surf: each wave swells from a low roar, breaks over the whole band, and hisses away up the beach."""
    period = rng.uniform(2.8, 5.0)
    total = n / SAMPLE_RATE
    breaks = period * (rng.uniform(0.3, 0.9) + np.arange(-1, int(total / period) + 2))
    breaks += period * 0.1 * rng.standard_normal(len(breaks))
    sizes = rng.uniform(0.6, 1.0, len(breaks))
    edge, tilt = rng.uniform(300, 600), rng.uniform(0.7, 1.0)

    def gain(f: Signal, t: Signal) -> Signal:
        roar, hiss = np.zeros_like(t), np.zeros_like(t)
        for at, size in zip(breaks, sizes, strict=True):
            since = (t - at) / period
            # Rise before the break is slow, the fall after it slower for the hiss than for the roar.
            roar += size * np.where(since < 0, np.exp(9 * since), np.exp(-5 * since))
            hiss += size * np.where(since < 0, np.exp(16 * since), (1 + 2 * since) * np.exp(-5.5 * since))
        low = (np.maximum(f, 60) / 200) ** -tilt * dsp.band(f, 50, edge)
        high = 0.7 * (np.maximum(f, 60) / 800) ** -0.45 * dsp.band(f, edge, 6500, 1.5)
        return low * (0.12 + roar) + high * (0.03 + hiss)

    return dsp.moving_noise(n, rng, gain)


def thunder(n: int, rng: np.random.Generator) -> Signal:
    """A crack, then claps from ever farther parts of the stroke: rolling rumble that darkens as it dies away."""
    total = n / SAMPLE_RATE
    first = rng.uniform(0.0, 0.1)
    claps = first + np.concatenate([[0.0], np.cumsum(rng.exponential(0.35, rng.integers(4, 9)))])
    sizes = np.concatenate([[1.0], rng.uniform(0.25, 0.9, len(claps) - 1)]) * np.exp(-(claps - first) / 1.5)
    decay, corner, bright = rng.uniform(0.5, 0.9), rng.uniform(90, 160), rng.uniform(1500, 4000)
    darken = rng.uniform(0.15, 0.35)

    def gain(f: Signal, t: Signal) -> Signal:
        level, edge = np.full_like(t, 0.02), np.full_like(t, corner)
        for at, size in zip(claps, sizes, strict=True):
            since = np.maximum(t - at, 0)
            level += size * (1 - np.exp(-since / 0.02)) * np.exp(-since / decay)
            edge += np.where(t < at, 0, bright * size**2 * np.exp(-since / darken))
        return level * dsp.band(f, 25, edge, 1.6) * (np.maximum(f, 40) / 100) ** -0.7

    rumble = dsp.moving_noise(n, rng, gain)
    time = dsp.seconds(int(min(0.25, total) * SAMPLE_RATE))
    crack = (
        rng.standard_normal(len(time)) * np.exp(-time / 0.04) * (1 + 2 * (dsp.wander(len(time), rng, 60, 0, 1) > 0.6))
    )
    crack = np.convolve(crack, np.full(3, 1 / 3), mode="same")
    rumble /= np.abs(rumble).max()
    dsp.add(rumble, first, rng.uniform(0.1, 0.35) * crack)
    return rumble


def crackle(n: int, rng: np.random.Generator) -> Signal:
    """A fire: the flames' soft low roar, and snaps of power-law size at random moments, some in bursts."""
    roar = dsp.noise(n, rng, lambda f: dsp.band(f, 40, 250, 1.3)) * dsp.wander(n, rng, 3, 0.5, 1.0)
    hiss = dsp.noise(n, rng, lambda f: dsp.band(f, 1500, 7000)) * dsp.wander(n, rng, 2, 0.3, 1.0)
    out = rng.uniform(0.05, 0.1) * roar / roar.std() + 0.012 * hiss / hiss.std()
    times = dsp.poisson(n, rng, rng.uniform(7, 16))
    bursts = [
        at + np.cumsum(rng.exponential(0.015, rng.integers(2, 7))) for at in times[rng.uniform(size=len(times)) < 0.25]
    ]
    for at in np.concatenate([times, *bursts]):
        length = rng.uniform(0.004, 0.02)
        time = dsp.seconds(int(length * SAMPLE_RATE))
        body = np.sin(2 * np.pi * rng.uniform(900, 5000) * time) + rng.standard_normal(len(time))
        size = min(0.12 * (1 + rng.pareto(1.3)), 1.2)
        dsp.add(out, at, size * body * np.exp(-time * 6 / length))
    return out


def drip(n: int, rng: np.random.Generator) -> Signal:
    """Drops into water: a faint impact, then a bubble that rings at a rising pitch (van den Doel, 2005)."""
    pitch, rising = rng.uniform(700, 1700), rng.uniform(0.1, 0.35)
    out = np.zeros(n)
    for at in dsp.every(n, rng, rng.uniform(0.35, 0.9), 0.15):
        start, decay = pitch * rng.uniform(0.85, 1.2), rng.uniform(0.015, 0.03)
        time = dsp.seconds(int(8 * decay * SAMPLE_RATE))
        bubble = np.sin(2 * np.pi * start * (time + rising * time**2 / (2 * decay))) * np.exp(-time / decay)
        bubble *= 1 - np.exp(-time / 0.0015)
        size = rng.uniform(0.6, 1.0)
        dsp.add(out, at, size * dsp.damped([start * 2.7, start * 4.1], [0.008, 0.005], [0.3, 0.2]))
        dsp.add(out, at + rng.uniform(0.01, 0.02), size * bubble)
        if rng.uniform() < 0.35:  # a second, smaller bubble
            dsp.add(out, at + rng.uniform(0.07, 0.13), 0.4 * size * bubble)
    # A basin's or a cave's short tail.
    tail = dsp.seconds(int(0.25 * SAMPLE_RATE))
    echo = rng.standard_normal(len(tail)) * np.exp(-tail / rng.uniform(0.02, 0.06)) * 0.01
    echo[0] = 1.0
    return signal.fftconvolve(out, echo)[:n]
