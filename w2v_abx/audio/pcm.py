"""16-bit WAV without a decoder: at the speed of memory, and with the values that libsndfile gives."""

import struct

import numpy as np

__all__ = ["SAMPLE_RATE", "read_pcm"]

SAMPLE_RATE = 16_000  # Hz
FORMAT = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)  # PCM, mono, rate, bytes/s, frame, bits
SCALE = np.float32(1 / 32768)


def read_pcm(
    data: bytes | memoryview, start: int = 0, length: int | None = None, out: np.ndarray | None = None
) -> np.ndarray | None:
    """float32 (T,) of a 16-bit mono WAV at 16 kHz from sample ``start``, at most ``length`` samples.

    With ``out`` the result is its beginning, so that memory is touched once; what does not fit is left out.
    ``None`` for anything else, and for a WAV that is not whole: a decoder is to look at it.
    """
    if bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"WAVE":
        return None
    position, plain = 12, False
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if kind == b"fmt ":
            plain = bytes(data[position : position + len(FORMAT)]) == FORMAT
        if kind == b"data":
            if not plain or size % 2 or position + size > len(data):
                return None
            samples = np.frombuffer(data, "<i2", size // 2, position)
            end = None if length is None else start + length
            samples = samples[start:end]
            if out is None:
                return np.multiply(samples, SCALE, dtype=np.float32)
            samples = samples[: len(out)]
            return np.multiply(samples, SCALE, out=out[: len(samples)])
        position += size + size % 2
    return None
