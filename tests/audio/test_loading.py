"""One stretch of a file in, one 16 kHz clip out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import sine, speechlike

from w2v_abx.audio import SAMPLE_RATE, AudioError, info, load

RATES = [8000, 11025, 16000, 22050, 44100, 48000, 88200, 96000]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("noise")
    generator = np.random.default_rng(0)
    paths = {}
    for rate in RATES:
        paths[rate] = folder / f"{rate}.flac"
        sf.write(paths[rate], 0.1 * generator.standard_normal((rate * 3 // 2 + 7, 2)), rate)
    return paths


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=st.sampled_from(RATES), start=st.floats(0, 1.4), length=st.floats(0.03, 1.5))
def test_a_stretch_is_the_slice_of_the_whole(noise: dict[int, Path], rate: int, start: float, length: float) -> None:
    whole = load(noise[rate])
    end = min(start + length, info(noise[rate])[0])
    expected = whole[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    stretch = load(noise[rate], start, end)
    assert stretch.shape == expected.shape
    assert np.abs(stretch - expected).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels_are_averaged_and_the_offset_stays(tmp_path: Path, channels: int) -> None:
    samples = np.stack([0.25 + 0.05 * n * sine(100 * n, 16000) for n in range(1, channels + 1)], 1)
    sf.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert np.abs(load(tmp_path / "a.wav") - samples.mean(axis=1)).max() < 1e-6


@pytest.mark.parametrize(
    ("ending", "subtype", "error"),  # root mean square, relative to the sound's
    [
        ("wav", "PCM_16", 2e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-7),
        ("wav", "FLOAT", 1e-7),
        ("wav", "DOUBLE", 1e-7),
        ("wav", "ULAW", 0.05),
        ("flac", "PCM_16", 2e-4),
        ("flac", "PCM_24", 1e-6),
        ("aiff", "PCM_24", 1e-6),
        ("nist", "PCM_16", 2e-4),
        ("caf", "PCM_24", 1e-6),
        ("ogg", "VORBIS", 0.5),  # one sample late would be 0.6
        ("ogg", "OPUS", 0.5),
        ("mp3", "MPEG_LAYER_III", 0.5),
    ],
)
def test_every_format_of_libsndfile_gives_the_same_clip(
    tmp_path: Path, ending: str, subtype: str, error: float
) -> None:
    samples = speechlike(16000, 1.5, 2)
    mono = samples.mean(axis=1)
    path = tmp_path / f"a.{ending}"
    sf.write(path, samples, 16000, format=ending.upper(), subtype=subtype)
    clip = load(path)
    assert info(path) == (1.5, 16000)
    assert clip.dtype == np.float32
    assert np.std(clip - mono) < error * np.std(mono)
    assert np.std(mono[1:] - mono[:-1]) > 0.6 * np.std(mono)
    for start, end in [(0.3, 0.7), (0.0, 0.1), (1.2, 1.5), (1.41, None)]:
        expected = clip[round(start * 16000) : None if end is None else round(end * 16000)]
        assert np.abs(load(path, start, end) - expected).max() < 1e-6


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


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (-0.1, 0.5),
        (0.5, 1.1),
        (0.5, 0.5),
        (2.0, None),
        (1.0, None),
        (0.6, 0.5),
        (float("nan"), None),
        (0.5, float("inf")),
    ],
)
def test_a_stretch_outside_its_file_is_an_error(tmp_path: Path, start: float, end: float | None) -> None:
    sf.write(tmp_path / "a.wav", 0.1 * sine(100, 8000), 8000)
    with pytest.raises(AudioError, match="does not lie inside its 1 s") as caught:
        load(tmp_path / "a.wav", start, end)
    assert caught.value.reason == "outside"


def test_an_end_that_was_rounded_up_is_the_file_s_end(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", 0.1 * sine(100, 8000, 0.997), 8000)
    assert len(load(tmp_path / "a.wav", 0.5, 1.0)) == 15952 - 8000


def test_what_libsndfile_decodes_needs_neither_torch_nor_a_process(tmp_path: Path) -> None:
    for ending in ("wav", "flac", "mp3"):
        sf.write(tmp_path / f"a.{ending}", 0.1 * sine(100, 44100), 44100)
    script = """
import subprocess, sys
from pathlib import Path
subprocess.Popen.__init__ = lambda *_, **__: sys.exit("a process was started")
from w2v_abx.audio import Cleaning, info, load
for path in Path(sys.argv[1]).iterdir():
    info(path), load(path, 0.2, 0.7, Cleaning("rms", remove_dc=True, max_clipped=0.1))
heavy = {"torch", "torchaudio", "scipy", "imageio_ffmpeg", "hydra"} & set(sys.modules)
sys.exit(", ".join(heavy) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_real_recordings(shared_data: Path) -> None:
    path = sorted((shared_data / "esc10" / "009 - Rooster").iterdir())[0]
    seconds, rate = info(path)
    samples = load(path)
    assert (rate, len(samples)) == (44100, round(seconds * 16000))
    assert np.abs(load(path, 1.0, 2.0) - samples[16000:32000]).max() < 1e-6
    digit = shared_data / "fsdd" / "0_jackson_0.wav"
    assert len(load(digit)) == 2 * sf.info(digit).frames
