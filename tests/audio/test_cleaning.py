"""Offset, silence, clipping and level."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from recordings import decibels, sine

from w2v_abx.audio import AudioError, Cleaning, load
from w2v_abx.audio.cleaning import clipped
from w2v_abx.errors import InputError


def written(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    sf.write(path, samples, rate, subtype="FLOAT")
    return path


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"level": "loud"}, r"prepare\.level='loud' must be one of none, peak, rms, r128"),
        ({"remove_dc": "yes"}, r"prepare\.remove_dc='yes' must be true or false"),
        (
            {"silence_dbfs": 3},
            r"prepare\.silence_dbfs=3 must be a number at least -200 and at most 0; it is a level in dBFS",
        ),
        ({"silence_dbfs": float("nan")}, r"prepare\.silence_dbfs=nan"),
        ({"silence_dbfs": None}, r"prepare\.silence_dbfs=None"),
        (
            {"max_clipped": 1.5},
            r"prepare\.max_clipped=1\.5 must be a number at least 0 and at most 1, or null for no check",
        ),
        ({"trim": 0}, r"prepare\.trim=0 must be a number of dB above 0, or null to leave out nothing"),
        ({"max_clipped": "1%"}, r"prepare\.max_clipped='1%'"),
        ({"max_clipped": True}, r"prepare\.max_clipped=True"),
    ],
)
def test_a_setting_out_of_range_is_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Cleaning(**setting)


@pytest.mark.parametrize("trim", [20.0, 40.0])
def test_silence_at_the_ends_is_left_out(tmp_path: Path, trim: float) -> None:
    gains = np.repeat([1e-4, 0.03, 0.5, 1e-4, 0.5, 0.03, 1e-4], 1600)  # 24 dB between 0.03 and 0.5
    path = written(tmp_path / "word.wav", gains * sine(500, len(gains)))
    whole, found = load(path), load(path, cleaning=Cleaning(trim=trim))
    first = 1600 if trim == 40 else 3200
    np.testing.assert_array_equal(found, whole[first - 320 : len(whole) - first + 320])
    loudest = load(path, 0.2, 0.3, Cleaning(trim=trim))
    np.testing.assert_array_equal(loudest, load(path, 0.2, 0.3))
    assert rms(load(path, cleaning=Cleaning("rms", trim=trim))) == pytest.approx(10 ** (-25 / 20), rel=1e-3)


def test_settings_of_shards_that_are_not_trimmed_are_as_before_there_was_trim() -> None:
    assert "trim" not in Cleaning().settings
    assert Cleaning(trim=30).settings["trim"] == 30


def test_levels(tmp_path: Path) -> None:
    quiet = written(tmp_path / "quiet.wav", 0.01 * sine(100, 16000))
    click = written(tmp_path / "click.wav", np.where(np.arange(16000) == 8000, 0.5, 1e-4 * sine(100, 16000)))
    assert np.abs(load(quiet)).max() == pytest.approx(0.01, rel=1e-4)
    assert decibels(np.abs(load(quiet, cleaning=Cleaning("peak"))).max()) == pytest.approx(-1, abs=1e-3)
    assert decibels(rms(load(quiet, cleaning=Cleaning("rms")))) == pytest.approx(-25, abs=1e-3)
    for level in ("rms", "r128"):  # the peak allows no more
        assert np.abs(load(click, cleaning=Cleaning(level))).max() == pytest.approx(1)


def test_r128_brings_a_sine_to_minus_23_lufs(tmp_path: Path) -> None:
    # A full-scale 997 Hz sine in one channel reads -3.01 LUFS (BS.1770-4), so -23 LUFS are 19.99 dB below full scale.
    for name, amplitude in (("quiet", 0.003), ("loud", 0.9)):
        path = written(tmp_path / f"{name}.wav", amplitude * sine(997, 16000, 3))
        assert decibels(np.abs(load(path, cleaning=Cleaning("r128"))).max()) == pytest.approx(-19.99, abs=0.1)


def test_an_offset_stays_unless_asked(tmp_path: Path) -> None:
    samples = 0.25 + 0.25 * sine(100, 16000) + np.linspace(0, 0.2, 16000)
    path = written(tmp_path / "a.wav", samples)
    assert load(path, 0.2, 0.7).mean() == pytest.approx(samples[3200:11200].mean(), abs=1e-6)
    clip = load(path, 0.2, 0.7, Cleaning(remove_dc=True))
    assert np.abs(clip - (samples[3200:11200] - samples[3200:11200].mean())).max() < 1e-6  # the stretch's own mean
    clip = load(path, cleaning=Cleaning("peak", remove_dc=True))
    assert clip.mean() == pytest.approx(0, abs=1e-6)
    assert np.abs(clip).max() == pytest.approx(10 ** (-1 / 20))


@pytest.mark.parametrize(("amplitude", "threshold", "silent"), [(-50, -60, False), (-50, -40, True), (-95, -90, True)])
def test_what_varies_by_less_than_the_threshold_is_silent(
    tmp_path: Path, amplitude: float, threshold: float, silent: bool
) -> None:
    path = written(tmp_path / "a.wav", 0.3 + 10 ** (amplitude / 20) * sine(100, 16000))  # an offset is not a sound
    cleaning = Cleaning(silence_dbfs=threshold)
    if not silent:
        assert len(load(path, cleaning=cleaning)) == 16000
        return
    with pytest.raises(AudioError, match=f"varies by less than −{-threshold} dBFS") as caught:
        load(path, cleaning=cleaning)
    assert caught.value.reason == "silent"


def test_digital_silence_is_silent_at_any_threshold(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", np.zeros(16000))
    with pytest.raises(AudioError, match="silent"):
        load(path, cleaning=Cleaning("rms", silence_dbfs=-200))


def runs_by_hand(channel: list[int]) -> float:
    """Share of samples at either end (1 or -1) that have two more beside them in a row of equals."""
    inside = 0
    for i, value in enumerate(channel):
        low = high = i
        while low > 0 and channel[low - 1] == value:
            low -= 1
        while high + 1 < len(channel) and channel[high + 1] == value:
            high += 1
        inside += value != 0 and high - low + 1 >= 3
    return inside / len(channel)


@given(st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=30, max_size=30), min_size=1, max_size=2))
def test_clipping_is_the_worst_channel_s_share_of_flat_runs(channels: list[list[int]]) -> None:
    assert clipped(np.array(channels, np.float32).T) == pytest.approx(max(map(runs_by_hand, channels)))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_clipping_counts_flat_runs_and_not_a_peak_that_touches_full_scale(tmp_path: Path, subtype: str) -> None:
    touching, cut = tmp_path / "touching.wav", tmp_path / "cut.wav"
    sf.write(touching, sine(440, 44100), 44100, subtype=subtype)
    sf.write(cut, np.stack([0.1 * sine(440, 44100), np.clip(1.5 * sine(440, 44100), -1, 1)], 1), 44100, subtype=subtype)
    assert len(load(touching, cleaning=Cleaning(max_clipped=0.0))) == 16000
    share = 1 - 2 / np.pi * np.arcsin(1 / 1.5)  # of its time that 1.5 sin spends beyond 1
    assert len(load(cut, cleaning=Cleaning(max_clipped=share + 0.01))) == 16000
    with pytest.raises(
        AudioError, match=r"5\d\.\d\d% of its samples are clipped, more than prepare\.max_clip"
    ) as caught:
        load(cut, cleaning=Cleaning(max_clipped=share - 0.01))
    assert caught.value.reason == "clipped"
    assert len(load(cut)) == 16000  # not looked at unless asked


def test_only_the_stretch_s_own_clipping_counts(tmp_path: Path) -> None:
    samples = 0.1 * sine(440, 48000, 2)
    samples[:48000] = 1.0
    path = written(tmp_path / "a.wav", samples, 48000)
    assert len(load(path, 1.0, 2.0, Cleaning(max_clipped=0.0))) == 16000
    with pytest.raises(AudioError, match=r"50\.00% of its samples are clipped"):
        load(path, cleaning=Cleaning(max_clipped=0.1))


def test_an_error_survives_its_way_out_of_a_worker() -> None:
    error = pickle.loads(pickle.dumps(AudioError("a.wav", "silent", "is silent")))
    assert (str(error), error.reason, error.path) == ("a.wav: is silent", "silent", Path("a.wav"))
