"""What is opened by which decoder, and what cannot be used, by reason."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from recordings import convert, decoded, ffmpeg, sine, speechlike

from w2v_abx.audio import AudioError, info, load
from w2v_abx.audio.recording import open_recording


def sphere(path: Path, samples: np.ndarray, coding: str | None) -> Path:
    """A NIST SPHERE file as TIMIT has it: a header of 1024 bytes, then little-endian samples."""
    fields = ["NIST_1A", "   1024", "database_id -s5 TIMIT", "utterance_id -s8 abc0_sa1", "channel_count -i 1"]
    fields += [f"sample_count -i {len(samples)}", "sample_rate -i 16000", "sample_min -i -2191", "sample_n_bytes -i 2"]
    fields += ["sample_byte_format -s2 01", "sample_sig_bits -i 16"]
    fields += [f"sample_coding -s{len(coding)} {coding}"] if coding else []
    header = "\n".join([*fields, "end_head", ""]).encode().ljust(1024)
    path.write_bytes(header + samples.astype("<i2").tobytes())
    return path


def test_sphere_as_timit_has_it(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-3000, 3000, 20000)
    path = sphere(tmp_path / "SA1.WAV", pcm, None)
    assert np.array_equal(load(path) * 32768, pcm)
    assert np.array_equal(load(path, 0.25, 0.5) * 32768, pcm[4000:8000])
    path = sphere(tmp_path / "SA2.WAV", pcm, "pcm,embedded-shorten-v2.00")
    with pytest.raises(AudioError, match=r"SPHERE compressed with shorten: unpack it with `sph2pipe -f wav") as caught:
        load(path)
    assert caught.value.reason == "compressed"


def test_sphere_as_switchboard_has_it(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", speechlike(8000, 1, 2), 8000, subtype="ULAW")
    coded = (tmp_path / "a.wav").read_bytes()[-16000:]
    fields = ["NIST_1A", "   1024", "channel_count -i 2", "sample_coding -s4 ulaw", "channels_interleaved -s4 TRUE"]
    fields += ["sample_count -i 8000", "sample_rate -i 8000", "sample_n_bytes -i 1", "sample_sig_bits -i 8", "end_head"]
    (tmp_path / "a.sph").write_bytes("\n".join([*fields, ""]).encode().ljust(1024) + coded)
    assert info(tmp_path / "a.sph") == (1.0, 8000)
    assert np.array_equal(load(tmp_path / "a.sph"), load(tmp_path / "a.wav"))


@pytest.mark.parametrize("options", [(), ("-q:a", "4"), ("-ar", "16000", "-ac", "1")])
def test_an_mp3_without_an_index_loses_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    samples = speechlike(44100, 20)
    samples[: 10 * 44100] *= 0.01  # libsndfile guesses the length from the first frames' rate
    path = convert(samples, 44100, tmp_path / "a.mp3", *options, "-write_xing", "0", "-id3v2_version", "3")
    seconds, rate = info(path)
    assert 20 <= seconds < 20.1
    clip = load(path)
    assert len(clip) == pytest.approx(seconds * 16000, abs=1)
    for start, end in [(0.1, 0.4), (9.97, 10.5), (19.7, 19.99)]:
        assert np.abs(load(path, start, end) - clip[round(start * 16000) : round(end * 16000)]).max() < 1e-6
    indexed = convert(samples, 44100, tmp_path / "b.mp3", *options)
    assert info(indexed) == (20.0, rate)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_the_last_page_of_vorbis_is_where_it_should_be(tmp_path: Path, rate: int) -> None:
    path = convert(speechlike(rate, 3.017), rate, tmp_path / "a.ogg", "-c:a", "libvorbis")
    whole = sf.read(path, dtype="float32", always_2d=True)[0]
    for begin in range(len(whole) - 150, 0, -rate // 7):
        with open_recording(path) as recording:
            assert np.array_equal(recording.read(begin, begin + 100), whole[begin : begin + 100])


def test_every_bad_file_has_a_reason_and_a_sentence(tmp_path: Path) -> None:
    tone = 0.1 * sine(100, 16000)
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is a text, not a sound\n" * 100)
    (tmp_path / "text.m4a").write_text("nor is this ünïcödé\n" * 100)
    (tmp_path / "bytes.mp3").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "samples.raw").write_bytes(b"\0" * 1000)
    (tmp_path / "header.wav").write_bytes(b"RIFF\xff\0\0\0WAVEfmt ")
    (tmp_path / "header.flac").write_bytes(b"fLaC" + bytes(range(256)))
    sf.write(tmp_path / "no_samples.wav", np.zeros(0), 16000)
    sf.write(tmp_path / "one_sample.wav", np.ones(1), 16000)
    sf.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    sf.write(tmp_path / "constant.wav", np.full(16000, 0.3), 16000)
    sf.write(tmp_path / "nan.wav", np.where(np.arange(16000) == 5, np.nan, tone), 16000, subtype="FLOAT")
    sf.write(tmp_path / "inf.wav", np.where(np.arange(16000) == 5, np.inf, tone), 16000, subtype="FLOAT")
    sf.write(tmp_path / "loud.wav", tone * 32768, 16000, subtype="FLOAT")
    sf.write(tmp_path / "slow.wav", tone, 10)
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
    sf.write(tmp_path / "whole.flac", noise, 16000)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "corrupt.flac").write_bytes(whole[:12000] + bytes(2000) + whole[14000:])
    (tmp_path / "whole.flac").unlink()
    whole = convert(noise, 16000, tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "truncated.mp3").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.mp3").unlink()
    ffmpeg("-f", "lavfi", "-i", "testsrc=duration=1:size=64x64", tmp_path / "mute.mp4")
    reasons = {
        "missing.wav": "missing",
        "missing.m4a": "missing",
        "folder.wav": "folder",
        "empty.wav": "empty",
        "no_samples.wav": "empty",
        "text.wav": "not_audio",
        "text.m4a": "not_audio",
        "bytes.mp3": "not_audio",
        "samples.raw": "unreadable",
        "header.wav": "unreadable",
        "header.flac": "unreadable",
        "truncated.flac": "unreadable",
        "corrupt.flac": "unreadable",
        "truncated.mp3": "unreadable",
        "slow.wav": "unreadable",
        "one_sample.wav": "too_short",
        "silent.wav": "silent",
        "constant.wav": "silent",
        "nan.wav": "not_finite",
        "inf.wav": "not_finite",
        "loud.wav": "over_range",
        "mute.mp4": "no_audio",
    }
    assert {path.name for path in tmp_path.iterdir()} == {name for name in reasons if not name.startswith("missing")}
    for name, reason in reasons.items():
        with pytest.raises(AudioError, match=name) as caught:
            load(tmp_path / name)
        assert (name, caught.value.reason) == (name, reason)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_unreadable(tmp_path: Path) -> None:
    path = convert(sine(100, 16000), 16000, tmp_path / "a.m4a")
    path.chmod(0)
    with pytest.raises(AudioError, match="Permission denied") as caught:
        load(path)
    assert caught.value.reason == "unreadable"


def test_a_codec_that_libsndfile_does_not_know_in_a_container_that_it_does(tmp_path: Path) -> None:
    path = convert(speechlike(16000, 2), 16000, tmp_path / "a.wav", "-c:a", "adpcm_yamaha")
    with pytest.raises(sf.SoundFileError):
        sf.SoundFile(path)
    whole = decoded(path, 1)[:, 0]
    assert np.array_equal(load(path), whole)
    assert np.array_equal(load(path, 0.7, 1.2), whole[11200:19200])
