"""Things that people make: struck, turning, ringing and blown."""

import numpy as np
from scipy import signal

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.corpora.soundscape import dsp
from w2v_abx.corpora.soundscape.dsp import Signal

__all__ = ["alarm", "bell", "engine", "footsteps", "helicopter", "siren", "telephone", "tick", "whistle"]

# A church bell's partials relative to its prime: hum, prime, tierce (a minor third), quint, nominal, and above
# (Rossing & Perrin, "Vibrations of bells", 1987), with strike levels.
BELL_RATIOS = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.61, 3.0, 4.0, 5.2])
BELL_LEVELS = np.array([0.5, 0.8, 0.9, 0.35, 1.0, 0.3, 0.3, 0.45, 0.3, 0.15])


def bell(n: int, rng: np.random.Generator) -> Signal:
    """A church bell: ten inharmonic partials, each a slowly beating pair, the low ones dying last."""
    prime, ring = rng.uniform(300, 700), rng.uniform(2.5, 4.5)
    ratios = BELL_RATIOS * (1 + 0.006 * rng.standard_normal(len(BELL_RATIOS)))
    decays = ring / ratios**0.7
    levels = BELL_LEVELS * rng.uniform(0.6, 1.2, len(ratios))
    beats = rng.uniform(0.3, 1.5, len(ratios))
    strike = dsp.damped(
        np.concatenate([prime * ratios, prime * ratios + beats]),
        np.concatenate([decays, decays]),
        np.concatenate([levels, 0.5 * levels]),
    )
    clang = dsp.noise(400, rng, lambda f: dsp.band(f, 1500, 6500)) * np.exp(-np.arange(400) / 80)
    strike[:400] += 1.2 * clang
    return dsp.place(n, dsp.every(n, rng, rng.uniform(1.1, 2.2), 0.03), strike)


def tick(n: int, rng: np.random.Generator) -> Signal:
    """A clock: a bright tick and a duller tock in turn, strictly regular, two to three a second."""
    case = rng.uniform(2200, 3800)
    times = dsp.every(n, rng, 1 / rng.uniform(1.9, 3.0), 0.002)
    out = np.zeros(n)
    for parity, pitch in enumerate((1.0, rng.uniform(0.6, 0.75))):
        modes = case * pitch * np.array([0.45, 1.0, 1.62])
        click = dsp.damped(np.minimum(modes, 7500), [0.04, 0.025, 0.015], [0.3, 1.0, 0.7])
        beats = times[parity::2]
        out += dsp.place(n, beats, click, 1.0 - 0.25 * parity)
        # The escapement's second, lighter contact.
        out += dsp.place(n, beats + rng.uniform(0.012, 0.02), click, 0.3)
    return out


def footsteps(n: int, rng: np.random.Generator) -> Signal:
    """Walking: heel thump and toe, left and right in turn, with the ground's scrape or crunch."""
    thump, gravel = rng.uniform(70, 140), rng.uniform(0, 1)
    low, high = rng.uniform(300, 700), rng.uniform(2000, 4500)
    out = np.zeros(n)
    for step, at in enumerate(dsp.every(n, rng, 1 / rng.uniform(1.5, 2.2), 0.03)):
        foot = 1.0 if step % 2 else rng.uniform(0.88, 0.95)
        heel = dsp.damped([thump * foot, thump * 2.3 * foot, low * 1.5], [0.12, 0.08, 0.03], [1.0, 0.5, 0.4])
        dsp.add(out, at, heel * rng.uniform(0.85, 1.0))
        for delay, length, size in ((0.0, 0.06, 0.6), (rng.uniform(0.1, 0.15), 0.09, 0.4)):
            count = int(length * SAMPLE_RATE)
            grit = dsp.noise(count, rng, lambda f: dsp.band(f, low, high))
            crunch = np.abs(dsp.wander(count, rng, 300, -1, 1)) ** 2 * gravel * 2 + (1 - gravel)
            scrape = grit / grit.std() * crunch * dsp.envelope(count, 0.003, length - 0.003)
            dsp.add(out, at + delay, scrape * size * (0.15 + 0.35 * gravel) * rng.uniform(0.8, 1.0))
    return out


def engine(n: int, rng: np.random.Generator) -> Signal:
    """A four-stroke engine: 30 to 80 firings a second, uneven by cylinder, through the exhaust's resonances."""
    rate = rng.uniform(30, 80) * dsp.wander(n, rng, 0.8, 0.9, 1.1)
    cycles = np.cumsum(rate) / SAMPLE_RATE
    index = np.arange(1, int(cycles[-1]) + 1)
    times = np.interp(index + 0.02 * rng.standard_normal(len(index)), cycles, dsp.seconds(n))
    cylinders = rng.uniform(0.7, 1.0, 4)
    strength = cylinders[index % 4] * rng.uniform(0.85, 1.0, len(index))
    body = rng.uniform(80, 150)
    exhaust = dsp.damped(
        [body, body * rng.uniform(2.3, 3.0), rng.uniform(600, 900), rng.uniform(1300, 2200)],
        [0.09, 0.06, 0.03, 0.015],
        [1.0, 0.7, 0.35, 0.2],
    )
    out = dsp.place(n, times, exhaust, strength)
    rattle = dsp.noise(n, rng, lambda f: dsp.band(f, 500, 3000, 1.0))
    puffs = dsp.place(n, times, np.exp(-np.arange(800) / 120), strength)
    return out / out.std() + rng.uniform(0.1, 0.3) * rattle / rattle.std() * (0.3 + puffs)


def helicopter(n: int, rng: np.random.Generator) -> Signal:
    """A helicopter: 10 to 16 blade slaps a second over the rotor's chopped rush and a faint turbine whine."""
    rate = rng.uniform(10, 16) * dsp.wander(n, rng, 0.4, 0.97, 1.03)
    rotation = np.cumsum(rate) / SAMPLE_RATE
    chop = (0.5 + 0.5 * np.cos(2 * np.pi * rotation)) ** 4
    thud = dsp.noise(n, rng, lambda f: dsp.band(f, 35, 180, 2.5))
    rush = dsp.noise(n, rng, lambda f: dsp.band(f, 300, 1800, 0.8))
    edge = rng.uniform(0.2, 0.45)
    whine = dsp.tone(rng.uniform(2200, 3800) * dsp.wander(n, rng, 0.5, 0.99, 1.01))
    near = dsp.wander(n, rng, 0.4, 0.6, 1.0)
    out = thud / thud.std() * (0.1 + chop) + edge * rush / rush.std() * (0.15 + chop)
    return near * (out + rng.uniform(0.005, 0.02) * whine)


def siren(n: int, rng: np.random.Generator) -> Signal:
    """An emergency siren: a horn swept between about 600 and 1500 Hz, slowly (wail) or quickly (yelp)."""
    low, span = rng.uniform(500, 700), rng.uniform(1.0, 1.35)
    rate = rng.uniform(0.25, 0.5) if rng.uniform() < 0.6 else rng.uniform(2.0, 3.5)
    x = (dsp.seconds(n) * rate + rng.uniform()) % 1
    # It speeds up faster than it slows down.
    rise = rng.uniform(0.35, 0.5)
    sweep = 0.5 - 0.5 * np.cos(np.pi * np.where(x < rise, x / rise, (1 - x) / (1 - rise)))
    voice = dsp.periodic(low * 2 ** (span * sweep), 1 / np.arange(1, 9) ** rng.uniform(0.7, 1.2))
    return voice * (0.75 + 0.25 * sweep)


def alarm(n: int, rng: np.random.Generator) -> Signal:
    """An alarm clock: groups of four square-wave beeps at 1.8 to 3.2 kHz."""
    pitch, length = rng.uniform(1800, 3200), rng.uniform(0.055, 0.085)
    size = int(length * SAMPLE_RATE)
    beep = dsp.periodic(np.full(size, pitch), [1.0, 0.1, 0.33]) * dsp.envelope(size, 0.003, 0.003)
    spacing = length * rng.uniform(1.8, 2.1)
    group = dsp.place(int(4 * spacing * SAMPLE_RATE), np.arange(4) * spacing, beep)
    return dsp.place(n, dsp.every(n, rng, 4 * spacing + rng.uniform(0.25, 0.45)), group)


def telephone(n: int, rng: np.random.Generator) -> Signal:
    """An old telephone: a clapper between two small gongs about 22 times a second, ring-ring and a pause."""
    pitch = rng.uniform(950, 1500)
    gongs = []
    for ratio in (1.0, rng.uniform(1.15, 1.3)):
        modes = np.minimum(pitch * ratio * np.array([1.0, 1.63, 2.42, 3.37]), 7500)
        gongs.append(dsp.damped(modes, [0.5, 0.4, 0.25, 0.15], rng.uniform(0.5, 1.0, 4) * [1.0, 0.8, 0.7, 0.5]))
    cadence = dsp.seconds(n) % rng.uniform(1.7, 2.1)
    ringing = (cadence < 0.4) | ((cadence >= 0.6) & (cadence < 1.0))
    strikes = dsp.every(n, rng, 1 / rng.uniform(20, 25), 0.01)
    strikes = strikes[ringing[(strikes * SAMPLE_RATE).astype(np.int64)]]
    return dsp.place(n, strikes[::2], gongs[0]) + dsp.place(n, strikes[1::2], gongs[1], 0.9)


def whistle(n: int, rng: np.random.Generator) -> Signal:
    """A referee's whistle: blasts at 2.3 to 3.2 kHz that the pea inside trills 30 to 50 times a second."""
    pitch, trill, depth = rng.uniform(2300, 3200), rng.uniform(30, 50), rng.uniform(0.02, 0.04)
    length = rng.uniform(0.35, 0.9)
    size = int(length * SAMPLE_RATE)
    pea = np.sin(2 * np.pi * np.cumsum(trill * dsp.wander(size, rng, 6, 0.93, 1.07)) / SAMPLE_RATE)
    # Blowing up to pitch and dropping off it.
    glide = 1 - 0.06 * np.exp(-dsp.seconds(size) / 0.025) - 0.05 * np.exp(-dsp.seconds(size)[::-1] / 0.02)
    frequency = pitch * (1 + depth * pea) * glide
    tube = (dsp.tone(frequency) + 0.1 * dsp.tone(2 * frequency)) * (0.65 + 0.35 * pea)
    breath = signal.lfilter([1, -0.9], [1], rng.standard_normal(size)) * 0.02
    blast = (tube + breath) * dsp.envelope(size, 0.03, 0.04)
    times = dsp.every(n, rng, length + rng.uniform(0.12, 0.35), 0.02)
    return dsp.place(n, times, blast, rng.uniform(0.9, 1.0, len(times)))
