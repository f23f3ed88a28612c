"""A fetched section starts where the same second of the whole recording does."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile as sf
from audioset_lists import DOG, corpus, video
from loopback import Loopback

from w2v_abx import audio

RATE = 48_000
START = 7.013  # on no packet's or page's border
CODECS = {
    "wav": ["-c:a", "pcm_s16le"],
    "flac": ["-c:a", "flac"],
    "ogg": ["-c:a", "libvorbis", "-q:a", "6"],
    "opus": ["-c:a", "libopus", "-b:a", "128k"],
    "webm": ["-c:a", "libopus", "-b:a", "128k"],  # what YouTube gives
    "m4a": ["-c:a", "aac", "-b:a", "160k", "-movflags", "+faststart"],  # and this
    "mp3": ["-c:a", "libmp3lame", "-b:a", "192k"],
    "ts": ["-c:a", "aac", "-b:a", "160k"],  # its clock begins at 1.4 s
}
# Samples at 16 kHz. Matroska's clock ticks in milliseconds; an MP3 begins 1,105 samples at 48 kHz late, which are no
# whole number at 16 kHz.
TOLERANCE = {"webm": 16, "ts": 16, "mp3": 0}


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments], check=True)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Quiet noise that never repeats, with a burst half a second into the segment."""
    path = tmp_path_factory.mktemp("recording") / "whole.wav"
    samples = np.random.default_rng(0).normal(0, 0.02, 12 * RATE)
    burst = round((START + 0.5) * RATE)
    samples[burst : burst + 480] += np.hanning(480) * np.sin(2 * np.pi * 1000 * np.arange(480) / RATE)
    sf.write(path, samples, RATE)
    return path


@pytest.mark.parametrize(
    ("codec", "start"), [(codec, START) for codec in CODECS] + [("webm", 0.0), ("webm", 0.3), ("mp3", 0.3), ("ts", 0.0)]
)
def test_a_section_starts_where_it_should(tmp_path: Path, recording: Path, codec: str, start: float) -> None:
    site = tmp_path / "site"
    site.mkdir()
    ffmpeg("-i", recording, *CODECS[codec], site / f"{video(0)}.{codec}")
    ffmpeg("-i", site / f"{video(0)}.{codec}", "-c:a", "pcm_f32le", tmp_path / "decoded.wav")
    whole = audio.load(tmp_path / "decoded.wav", start, start + 3.0)
    with Loopback(site) as server:
        made = corpus(tmp_path, [(video(0), start, start + 3.0, [DOG])], url=f"{server.base}/{{id}}.{codec}")
        assert made.fetch(made.clips()) == {}
    cut = audio.load(made.clips()[0].path)
    assert len(cut) == 48_000
    window = slice(4_000, 44_000)
    lags = range(-400, 401)
    match = [np.dot(whole[window], cut[4_000 + lag : 44_000 + lag]) for lag in lags]
    lag = lags[int(np.argmax(match))]
    assert abs(lag) <= TOLERANCE.get(codec, 0)
    if codec not in TOLERANCE:  # to the sample, the codec's memory included
        np.testing.assert_allclose(cut, whole, atol=4e-5)


def test_only_the_sections_bytes_are_fetched(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    samples = np.random.default_rng(0).normal(0, 0.1, 1000 * 16_000)
    audio.save(site / f"{video(0)}.wav", samples)  # 32 MB
    size = (site / f"{video(0)}.wav").stat().st_size
    with Loopback(site) as server:
        settings = {"url": f"{server.base}/{{id}}.wav"}
        made = corpus(tmp_path, [(video(0), 500.0, 510.0, [DOG])], **settings)
        assert made.fetch(made.clips()) == {}
        # What the connection's buffers swallow before ffmpeg hangs up counts as sent.
        assert server.sent[f"{video(0)}.wav"] < size / 2
        server.sent.clear()
        made = corpus(tmp_path / "whole", [(video(0), 500.0, 510.0, [DOG])], sections=False, **settings)
        assert made.fetch(made.clips()) == {}
        assert server.sent[f"{video(0)}.wav"] >= size
