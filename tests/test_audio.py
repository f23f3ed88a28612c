"""One stretch of a file in, one 16 kHz clip out."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from w2v_abx.audio import SAMPLE_RATE, AudioError, decode, encode, info, load, save
from w2v_abx.errors import InputError

RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000]


def sine(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("noise")
    generator = np.random.default_rng(0)
    paths = {}
    for rate in RATES:
        paths[rate] = folder / f"{rate}.flac"
        sf.write(paths[rate], 0.1 * generator.standard_normal((rate * 3 // 2 + 7, 2)), rate)
    return paths


def test_sixteen_bit_speech_passes_unchanged(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 16000).astype(np.int16)
    sf.write(tmp_path / "a.wav", pcm, SAMPLE_RATE)
    samples = load(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    for ending in ("flac", "wav"):
        save(tmp_path / f"b.{ending}", samples)
        assert np.array_equal(sf.read(tmp_path / f"b.{ending}", dtype="int16")[0], pcm)
        assert encode(samples, ending) == encode(samples, ending)
        assert np.array_equal(decode(encode(samples, ending), 100, 50), samples[100:150])


def test_channels_are_averaged_and_the_offset_stays(tmp_path: Path) -> None:
    left, right = 0.25 + 0.25 * sine(100, 16000), 0.25 + 0.5 * sine(300, 16000)
    sf.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    assert np.allclose(load(tmp_path / "a.wav"), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_a_sine_stays_that_sine_and_nothing_folds_back(tmp_path: Path, rate: int) -> None:
    tone = 0.5 * sine(1000, rate)
    if rate > 2 * 10_000:
        tone += 0.4 * sine(9_500, rate)  # above the new Nyquist frequency; would come back at 6.5 kHz
    sf.write(tmp_path / "a.wav", tone, rate, subtype="FLOAT")
    samples = load(tmp_path / "a.wav")
    assert len(samples) == 16000
    error = (samples - 0.5 * sine(1000, 16000))[800:-800]  # a tone that starts at once rings at its edges
    assert 20 * np.log10(np.sqrt(np.mean(error**2)) / 0.35) < -110


@pytest.mark.parametrize("rate", [44100, 48000])
def test_the_pass_band_is_flat_to_seven_kilohertz(tmp_path: Path, rate: int) -> None:
    frequencies = np.arange(100, 7100, 100)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(frequencies))
    time = np.arange(2 * rate) / rate
    tones = sum(np.sin(2 * np.pi * f * time + p) for f, p in zip(frequencies, phases, strict=True)) / 100
    sf.write(tmp_path / "a.wav", tones, rate, subtype="FLOAT")
    spectrum = np.abs(np.fft.rfft(load(tmp_path / "a.wav", 0.5, 1.5))) * 2 / 16000 * 100
    assert np.abs(20 * np.log10(spectrum[frequencies])).max() < 0.01  # dB


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=st.sampled_from(RATES), start=st.floats(0, 1.4), length=st.floats(0.03, 1.5))
def test_a_stretch_is_the_slice_of_the_whole(noise: dict[int, Path], rate: int, start: float, length: float) -> None:
    whole = load(noise[rate])
    end = min(start + length, info(noise[rate])[0])
    expected = whole[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    stretch = load(noise[rate], start, end)
    assert stretch.shape == expected.shape
    assert np.abs(stretch - expected).max() < 1e-6


def test_only_the_stretch_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sf.write(tmp_path / "a.flac", 0.1 * sine(100, 44100, 60), 44100)
    asked = []
    read = sf.SoundFile.read
    monkeypatch.setattr(
        sf.SoundFile, "read", lambda self, frames=-1, **kw: asked.append(frames) or read(self, frames, **kw)
    )
    assert len(load(tmp_path / "a.flac", 30, 31)) == 16000
    assert len(asked) == 1
    assert 44100 <= asked[0] < 1.1 * 44100


def test_a_file_too_damaged_to_hear_has_a_reason(tmp_path: Path) -> None:
    tone = 0.1 * sine(100, 16000)
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is a text, not a sound\n" * 100)
    sf.write(tmp_path / "no_samples.wav", np.zeros(0), 16000)
    sf.write(tmp_path / "one_sample.wav", np.ones(1), 16000)
    sf.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    sf.write(tmp_path / "constant.wav", np.full(16000, 0.3), 16000)
    sf.write(tmp_path / "nan.wav", np.where(np.arange(16000) == 5, np.nan, tone), 16000, subtype="FLOAT")
    sf.write(tmp_path / "loud.wav", tone * 32768, 16000, subtype="FLOAT")
    sf.write(tmp_path / "whole.flac", 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    reasons = {
        "missing.wav": "missing",
        "folder.wav": "folder",
        "empty.wav": "empty",
        "no_samples.wav": "empty",
        "text.wav": "unreadable",
        "truncated.flac": "unreadable",
        "one_sample.wav": "too_short",
        "silent.wav": "silent",
        "constant.wav": "silent",
        "nan.wav": "not_finite",
        "loud.wav": "over_range",
    }
    for name, reason in reasons.items():
        with pytest.raises(AudioError, match=name) as caught:
            load(tmp_path / name)
        assert (name, caught.value.reason) == (name, reason)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("start", "end"), [(-0.1, 0.5), (0.5, 1.1), (0.5, 0.5), (2.0, None), (0.6, 0.5)])
def test_a_stretch_outside_its_file_is_an_error(tmp_path: Path, start: float, end: float | None) -> None:
    sf.write(tmp_path / "a.wav", 0.1 * sine(100, 8000), 8000)
    with pytest.raises(AudioError, match="does not lie inside its 1 s") as caught:
        load(tmp_path / "a.wav", start, end)
    assert caught.value.reason == "outside"


def test_an_end_that_was_rounded_up_is_the_file_s_end(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", 0.1 * sine(100, 8000, 0.997), 8000)
    assert len(load(tmp_path / "a.wav", 0.5, 1.0)) == 15952 - 8000


def test_levels(tmp_path: Path) -> None:
    sf.write(tmp_path / "quiet.wav", 0.01 * sine(100, 16000), 16000, subtype="FLOAT")
    click = np.where(np.arange(16000) == 8000, 0.5, 1e-4 * sine(100, 16000))
    sf.write(tmp_path / "click.wav", click, 16000, subtype="FLOAT")
    assert np.abs(load(tmp_path / "quiet.wav")).max() == pytest.approx(0.01, rel=1e-4)
    assert np.abs(load(tmp_path / "quiet.wav", level="peak")).max() == pytest.approx(10 ** (-1 / 20))
    rms = np.sqrt(np.mean(load(tmp_path / "quiet.wav", level="rms") ** 2))
    assert 20 * np.log10(rms) == pytest.approx(-25, abs=0.01)
    assert np.abs(load(tmp_path / "click.wav", level="rms")).max() == pytest.approx(1)
    with pytest.raises(InputError, match="level='loud' is unknown: choose from none, peak, rms"):
        load(tmp_path / "quiet.wav", level="loud")  # type: ignore[arg-type]


def test_saving_clips_and_never_wraps(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", np.array([2.0, -2.0, 1.0, 0.5], dtype=np.float32))
    assert sf.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [32767, -32768, 32767, 16384]
    with pytest.raises(InputError, match=r"name it \.flac or \.wav"):
        save(tmp_path / "a.mp3", np.zeros(10))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_decoding_refuses_what_is_no_shard_audio() -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(b"nothing")


def test_real_recordings(shared_data: Path) -> None:
    path = sorted((shared_data / "esc10" / "009 - Rooster").iterdir())[0]
    seconds, rate = info(path)
    samples = load(path)
    assert (rate, len(samples)) == (44100, round(seconds * 16000))
    assert np.abs(load(path, 1.0, 2.0) - samples[16000:32000]).max() < 1e-6
    digit = shared_data / "fsdd" / "0_jackson_0.wav"
    assert len(load(digit)) == 2 * sf.info(digit).frames
