"""Clips as files: 16-bit FLAC or WAV at 16 kHz, mono."""

import io
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile as sf

from w2v_abx.audio.pcm import SAMPLE_RATE, read_pcm
from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write

__all__ = ["SAMPLE_RATE", "Format", "decode", "encode", "save"]

Format = Literal["flac", "wav"]


def encode(samples: np.ndarray, format: Format = "flac") -> bytes:
    """16-bit audio file of float samples (T,) at 16 kHz; the same samples give the same bytes. Clips beyond [-1, 1]."""
    if format not in get_args(Format):
        raise InputError(f"format={format!r} is unknown: choose from {', '.join(get_args(Format))}")
    # 32768, the factor that decoding divides by: 16-bit recordings pass through unchanged.
    steps = np.asarray(samples) * np.asarray(samples).dtype.type(32768)
    np.rint(steps, out=steps)
    pcm = np.clip(steps, -32768, 32767, out=steps).astype(np.int16)
    buffer = io.BytesIO()
    sf.write(buffer, pcm, SAMPLE_RATE, format=format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def decode(
    data: bytes | memoryview, start: int = 0, length: int | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """float32 (T,) of an encoded 16 kHz mono file, from sample ``start``, at most ``length`` samples of it.

    With ``out`` (float32) the result is its beginning, so that memory is touched once; what does not fit is left out.
    Raises ValueError when the bytes are not such a file.
    """
    if (samples := read_pcm(data, start, length, out)) is not None:
        return samples
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            if file.samplerate != SAMPLE_RATE or file.channels != 1:
                raise ValueError(f"{file.samplerate} Hz with {file.channels} channels is not 16 kHz mono")
            if not file.subtype.startswith("PCM_"):  # floats may be infinite, or none
                raise ValueError(f"samples of the kind {file.subtype} are no whole numbers")
            file.seek(min(start, file.frames))
            return file.read(-1 if length is None else length, dtype="float32", out=out)
    except sf.SoundFileError as error:
        raise ValueError(str(error)) from error


def save(path: Path | str, samples: np.ndarray) -> None:
    """Write float samples (T,) at 16 kHz as 16-bit ``.flac`` or ``.wav``, by the path's ending, whole or not at all."""
    path = Path(path)
    format = path.suffix.lower().removeprefix(".")
    if format not in get_args(Format):
        raise InputError(f"{path}: name it .flac or .wav")
    data = encode(samples, format)  # type: ignore[arg-type]
    write(path, lambda partial: partial.write_bytes(data))
