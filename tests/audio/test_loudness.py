"""The loudness meter against ITU-R BS.1770-4 and the signals of EBU Tech 3341."""

import math

import numpy as np
import pytest
from recordings import sine
from scipy.signal import lfilter

from w2v_abx.audio.loudness import integrated

# BS.1770-4, tables 1 and 2: the two filters at 48 kHz.
SHELF = [1.53512485958697, -2.69169618940638, 1.19839281085285], [1, -1.69065929318241, 0.73248077421585]
HIGH_PASS = [1.0, -2.0, 1.0], [1, -1.99004745483398, 0.99007225036621]


def by_the_book(samples: np.ndarray) -> float:
    """BS.1770-4 at 48 kHz, block by block, with the coefficients as they are printed."""
    weighted = lfilter(*HIGH_PASS, lfilter(*SHELF, samples))
    loudness = []
    for start in range(0, len(weighted) - 19200 + 1, 4800):
        loudness.append(-0.691 + 10 * math.log10(np.mean(weighted[start : start + 19200] ** 2)))
    loud = [level for level in loudness if level > -70]
    gate = mean_of(loud) - 10
    return mean_of([level for level in loud if level > gate])


def mean_of(loudness: list[float]) -> float:
    """Loudness of blocks of these loudnesses together."""
    return 10 * math.log10(np.mean([10 ** (level / 10) for level in loudness]))


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_a_full_scale_sine_at_997_hertz_reads_minus_3_01(rate: int) -> None:
    assert integrated(sine(997, rate, 5), rate) == pytest.approx(-3.01, abs=0.06)
    assert integrated(0.1 * sine(997, rate, 5), rate) == pytest.approx(-23.01, abs=0.06)


def test_noise_reads_as_by_the_book() -> None:
    generator = np.random.default_rng(0)
    samples = 0.05 * generator.standard_normal(48000 * 6)
    samples[48000:144000] *= 0.01  # falls to the relative gate
    samples[144000:192000] *= 1e-4  # and to the absolute one
    assert integrated(samples, 48000) == pytest.approx(by_the_book(samples), abs=1e-6)


@pytest.mark.parametrize("frequency", [50, 100, 500, 2000, 4000, 7000])
def test_every_frequency_weighs_at_16_kilohertz_what_it_weighs_by_the_book(frequency: float) -> None:
    book = by_the_book(0.5 * sine(frequency, 48000, 2))
    assert integrated(0.5 * sine(frequency, 16000, 2), 16000) == pytest.approx(book, abs=0.07)


# Test signals 1 to 5 of EBU Tech 3341: (dBFS, seconds) of a 1 kHz sine in both channels, to read -23 (-33) LUFS ± 0.1.
# In one channel they read 3.01 less.
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(-23, 20)], -23),
        ([(-33, 20)], -33),
        ([(-36, 10), (-23, 60), (-36, 10)], -23),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23),
    ],
)
def test_the_gates_of_ebu_tech_3341(parts: list[tuple[float, float]], expected: float) -> None:
    signal = np.concatenate([10 ** (level / 20) * sine(1000, 16000, seconds) for level, seconds in parts])
    assert integrated(signal, 16000) == pytest.approx(expected - 3.01, abs=0.1)


def test_a_clip_shorter_than_a_block_is_a_block_and_what_is_all_below_the_gate_counts() -> None:
    assert integrated(sine(1000, 16000, 0.1), 16000) == pytest.approx(-3.0, abs=0.3)
    assert integrated(1e-4 * sine(1000, 16000, 1), 16000) == pytest.approx(-83.0, abs=0.1)
    assert integrated(np.zeros(16000), 16000) == -math.inf
