"""Clips as files."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from w2v_abx.audio import SAMPLE_RATE, decode, encode, load, save
from w2v_abx.errors import InputError


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


def test_saving_clips_and_never_wraps(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", np.array([2.0, -2.0, 1.0, 0.5], dtype=np.float32))
    assert sf.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [32767, -32768, 32767, 16384]
    with pytest.raises(InputError, match=r"name it \.flac or \.wav"):
        save(tmp_path / "a.mp3", np.zeros(10))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_decoding_refuses_what_is_no_shard_audio() -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(b"nothing")
