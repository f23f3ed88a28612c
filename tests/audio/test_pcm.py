"""WAV read without a decoder gives what the decoder gives, or leaves it to the decoder."""

import io
import struct

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx import audio
from w2v_abx.audio.pcm import read_pcm


def decoded(data: bytes) -> np.ndarray:
    return sf.read(io.BytesIO(data), dtype="float32")[0]


@given(st.lists(st.integers(-32768, 32767), max_size=50), st.integers(0, 60), st.none() | st.integers(0, 60))
def test_values_are_those_of_libsndfile(values: list[int], start: int, length: int | None) -> None:
    data = audio.encode(np.array(values) / 32768, "wav")
    samples = read_pcm(data, start, length)
    assert samples is not None
    assert samples.dtype == np.float32
    assert np.array_equal(samples, decoded(data)[start:][:length])
    assert np.array_equal(samples, read_pcm(memoryview(data), start, length))
    out = np.full(10, 7, np.float32)
    filled = read_pcm(data, start, length, out)
    assert filled is not None
    assert np.array_equal(filled, samples[:10])
    assert np.array_equal(out[: len(filled)], filled)
    assert (out[len(filled) :] == 7).all()


def test_other_chunks_are_passed_over() -> None:
    data = audio.encode(np.arange(-5, 5) / 32768, "wav")
    note = b"LIST" + struct.pack("<I", 5) + b"note\0\0"  # an odd length is padded to an even one
    samples = read_pcm(data[:12] + note + data[12:] + note)
    assert samples is not None
    assert (samples * 32768).tolist() == list(range(-5, 5))


@pytest.mark.parametrize(
    "settings",
    [
        {"samplerate": 8000},
        {"subtype": "PCM_24"},
        {"subtype": "FLOAT"},
        {"format": "WAVEX"},
        {"format": "FLAC"},
        {"format": "AIFF"},
    ],
)
def test_everything_else_is_left_to_a_decoder(settings: dict[str, object]) -> None:
    buffer = io.BytesIO()
    sf.write(buffer, np.zeros(100), **({"samplerate": 16000, "format": "WAV", "subtype": "PCM_16"} | settings))
    assert read_pcm(buffer.getvalue()) is None


def test_two_channels_are_left_to_a_decoder() -> None:
    buffer = io.BytesIO()
    sf.write(buffer, np.zeros((100, 2)), 16000, format="WAV", subtype="PCM_16")
    assert read_pcm(buffer.getvalue()) is None


def test_a_file_that_is_not_whole_is_left_to_a_decoder() -> None:
    data = audio.encode(np.zeros(100), "wav")
    assert all(read_pcm(data[:size]) is None for size in range(len(data)))
