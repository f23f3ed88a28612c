"""What resampling to 16 kHz does to a sound, in decibels."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from recordings import decibels, sine, sweep

from w2v_abx.audio import Cleaning, load

HIGHER = [22050, 24000, 32000, 44100, 48000, 88200, 96000]
RATES = [8000, 11025, 16000, *HIGHER]
QUIET = Cleaning(silence_dbfs=-200)


def inside(samples: np.ndarray) -> np.ndarray:
    """Without the first and last 50 ms: a sound that starts at once rings at its edges."""
    return samples[800:-800].astype(np.float64)


@pytest.mark.parametrize("rate", RATES)
def test_a_sweep_through_the_pass_band_comes_out_as_the_same_sweep(tmp_path: Path, rate: int) -> None:
    top = min(7200, 0.45 * rate)
    sf.write(tmp_path / "a.wav", 0.5 * sweep(50, top, rate), rate, subtype="FLOAT")
    error = np.abs(inside(load(tmp_path / "a.wav")) - inside(0.5 * sweep(50, top, 16000))).max() / 0.5
    assert decibels(1 + error) < 0.01  # so the ripple is no more, and neither time nor phase is off


@pytest.mark.parametrize("rate", HIGHER)
def test_nothing_above_eight_kilohertz_folds_back(tmp_path: Path, rate: int) -> None:
    sf.write(tmp_path / "sweep.wav", 0.5 * sweep(8000, rate / 2, rate), rate, subtype="FLOAT")
    assert decibels(np.abs(inside(load(tmp_path / "sweep.wav", cleaning=QUIET))).max() / 0.5) < -120
    for frequency in (8000, 8100, 9500, rate / 2 - 500):
        sf.write(tmp_path / "tone.wav", 0.5 * sine(frequency, rate), rate, subtype="FLOAT")
        assert decibels(np.abs(inside(load(tmp_path / "tone.wav", cleaning=QUIET))).max() / 0.5) < -120


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_stays_that_tone_beside_one_that_must_go(tmp_path: Path, rate: int) -> None:
    tone = 0.5 * sine(1000, rate)
    if rate > 2 * 10_000:
        tone += 0.4 * sine(9_500, rate)  # would come back at 6.5 kHz
    sf.write(tmp_path / "a.wav", tone, rate, subtype="FLOAT")
    samples = load(tmp_path / "a.wav")
    assert len(samples) == 16000
    error = inside(samples) - inside(0.5 * sine(1000, 16000))
    assert decibels(float(np.sqrt(np.mean(error**2))) / 0.35) < -110
