"""MP3: as many samples as ffmpeg gives, by libsndfile, whatever its index says; damage is told."""

import re
from pathlib import Path

import numpy as np
import pytest
from recordings import convert, decoded, speechlike

from w2v_abx.audio import AudioError, info, load
from w2v_abx.audio import recording as recording_module

SAMPLES = speechlike(16000, 3)[:, 0]


@pytest.mark.parametrize("quality", [("-b:a", "24k"), ("-q:a", "4"), ("-b:a", "128k", "-ar", "44100")])
def test_an_mp3_is_as_long_as_its_frames_whatever_its_index_says(tmp_path: Path, quality: tuple[str, ...]) -> None:
    path = convert(SAMPLES, 16000, tmp_path / "a.mp3", *quality)
    expected, content = load(path), bytearray(path.read_bytes())
    place = re.search(rb"Xing|Info", content).start() + 8
    frames = int.from_bytes(content[place : place + 4])
    for claim in (frames // 2, frames - 8, 1):
        content[place : place + 4] = claim.to_bytes(4)
        path.write_bytes(content)
        found = load(path)
        assert len(expected) <= len(found) < len(expected) + 3500  # what the encoder padded it by is not cut off
        assert np.abs(found[: len(expected)] - expected)[:-200].max() < 1e-5
        assert info(path)[0] * 16000 == pytest.approx(len(found), abs=1)
        assert np.abs(load(path, 2.0, 2.5) - expected[32000:40000]).max() < 1e-5
        with pytest.raises(AudioError, match="does not lie inside its"):
            load(path, 4, 5)
    content[place : place + 4] = (2 * frames).to_bytes(4)
    path.write_bytes(content)
    with pytest.raises(AudioError, match="breaks off after"):
        load(path)


@pytest.mark.parametrize("options", [("-write_xing", "0"), ()])
def test_damage_inside_an_mp3_is_not_papered_over(tmp_path: Path, options: tuple[str, ...]) -> None:
    """With or without an index: where libsndfile would go on behind it, or stop before it, without a word."""
    path = convert(SAMPLES, 16000, tmp_path / "a.mp3", *options)
    expected, content = load(path), path.read_bytes()
    middle, noise = len(content) // 2, np.random.default_rng(0).bytes(2000)
    for damaged in (
        content[:middle] + bytes(2000) + content[middle + 2000 :],
        content[:middle] + noise + content[middle + 2000 :],
        content[:middle] + content[middle + 1000 :],
        content[: middle + 13],
        content[:-200],  # 70 ms
    ):
        path.write_bytes(damaged)
        with pytest.raises(AudioError, match="cannot be decoded|breaks off") as caught:
            load(path)
        assert caught.value.reason == "unreadable"
    for whole in (noise + content, content + b"TAG" + bytes(125), content + bytes(5000)):
        path.write_bytes(whole)
        assert np.abs(load(path) - expected).max() < 1e-5
        assert np.abs(load(path, 1.5, 2.5) - expected[24000:40000]).max() < 1e-5


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000])
def test_an_mp3_of_any_rate_and_bit_rate_is_ffmpeg_s(
    tmp_path: Path, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channels, options in ((1, ("-q:a", "5")), (2, ("-b:a", "64k"))):
        path = tmp_path / "a.mp3"
        convert(speechlike(rate, 1.0, channels), rate, path, *options, "-write_xing", "0")
        expected = decoded(path, channels)
        with monkeypatch.context() as patch:
            patch.setattr(recording_module, "FfmpegRecording", None)
            with recording_module.open_recording(path) as recording:
                samples = recording.read(0, None)
        assert samples.shape == expected.shape
        assert np.abs(samples - expected).max() < 1e-5


def test_no_mp3_needs_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start of it takes 40 ms, which is most of what a corpus of syllables takes."""
    for name, options in (("a.mp3", ()), ("b.mp3", ("-write_xing", "0")), ("c.mp2", ())):
        convert(SAMPLES, 16000, tmp_path / name, *options)
    monkeypatch.setattr(recording_module, "FfmpegRecording", None)
    for path in tmp_path.iterdir():
        assert len(load(path)) == pytest.approx(48000, abs=3000)
        assert info(path)[0] == pytest.approx(len(load(path)) / 16000)
