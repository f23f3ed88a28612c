"""Decode, downmix, resample to 16 kHz, level: one stretch of a file in, one clip out."""

import io
from math import gcd
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile as sf
import soxr

from w2v_abx.atomic import write
from w2v_abx.errors import InputError

__all__ = ["SAMPLE_RATE", "AudioError", "Format", "Level", "decode", "encode", "info", "load", "save"]

SAMPLE_RATE = 16_000
Level = Literal["none", "peak", "rms"]
Format = Literal["flac", "wav"]

SHORTEST = 0.025  # s: wav2vec 2.0 needs 400 samples for its first frame
SILENCE = 10 ** (-90 / 20)  # about one step of 16-bit audio
PEAK, RMS = 10 ** (-1 / 20), 10 ** (-25 / 20)
OVER_RANGE = 4.0  # lossy codecs and resampling overshoot 1 a little; more means another scale
OVERRUN = 0.01  # s: label files round their times
MARGIN = 320  # output samples (20 ms), more than half the length of soxr's VHQ filter


class AudioError(InputError):
    """Audio that cannot be used; ``reason`` is the one word under which it is counted."""

    def __init__(self, path: Path | str, reason: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.reason = Path(path), reason


def info(path: Path | str) -> tuple[float, int]:
    """Length in seconds and sample rate in Hz; raises `AudioError` as `load` does."""
    with _open(Path(path)) as file:
        return file.frames / file.samplerate, file.samplerate


def load(path: Path | str, start: float = 0.0, end: float | None = None, level: Level = "none") -> np.ndarray:
    """The stretch from ``start`` to ``end`` (seconds; ``None``: the file's end) as float32 (T,) mono at 16 kHz.

    Only the stretch is decoded, and 20 ms or more around it so that resampling sees the same neighbours as in the whole
    file: sample ``round(16000 · start)`` of the whole file is the first, whatever its rate. Channels are averaged; a
    constant offset is kept. ``level`` scales the peak to −1 dBFS or the root mean square to −25 dBFS (less where that
    would clip); "none" keeps the level.

    Raises `AudioError` with the reason missing, folder, unreadable, empty, outside (a stretch outside the file),
    too_short (under 25 ms), not_finite, over_range (peak above 4), or silent (varies by less than −90 dBFS).
    """
    path = Path(path)
    if level not in get_args(Level):
        raise InputError(f"level={level!r} is unknown: choose from {', '.join(get_args(Level))}")
    with _open(path) as file:
        rate, frames = file.samplerate, file.frames
        seconds = frames / rate
        stop = seconds if end is None else end
        if not 0 <= start < stop <= seconds + OVERRUN:
            raise AudioError(
                path, "outside", f"the stretch {start:g}–{stop:g} s does not lie inside its {seconds:g} s of audio"
            )
        first, last = round(start * SAMPLE_RATE), min(round(stop * SAMPLE_RATE), _at_16k(frames, rate))
        # Where both grids meet, so that the cut resamples on the very grid of the whole file.
        period = SAMPLE_RATE // gcd(rate, SAMPLE_RATE)
        margin = MARGIN if rate != SAMPLE_RATE else 0
        origin = max(0, first - margin) // period * period
        begin = origin * rate // SAMPLE_RATE
        until = min(frames, -(-(last + margin) * rate // SAMPLE_RATE))
        samples = _read(file, path, begin, until)
        if len(samples) < until - begin:
            # The length of an MP3 without an index is an estimate.
            if file.format != "MP3" or end is not None:
                raise AudioError(path, "unreadable", f"breaks off after {(begin + len(samples)) / rate:g} s")
            last = min(last, _at_16k(begin + len(samples), rate))
    if last - first < SHORTEST * SAMPLE_RATE:
        length = max(0, last - first) * 1000 / SAMPLE_RATE
        raise AudioError(path, "too_short", f"{length:g} ms are fewer than {SHORTEST * 1000:g} ms")
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, "VHQ")
    samples = samples[first - origin : last - origin]
    if len(samples) < last - first:  # soxr may round the last sample away
        samples = np.pad(samples, (0, last - first - len(samples)))
    return _levelled(samples, path, level)


def encode(samples: np.ndarray, format: Format = "flac") -> bytes:
    """16-bit audio file of float samples (T,) at 16 kHz; the same samples give the same bytes. Clips beyond [-1, 1]."""
    if format not in get_args(Format):
        raise InputError(f"format={format!r} is unknown: choose from {', '.join(get_args(Format))}")
    # 32768, the factor that decoding divides by: 16-bit recordings pass through unchanged.
    pcm = np.clip(np.rint(np.asarray(samples, dtype=np.float64) * 32768), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    sf.write(buffer, pcm, SAMPLE_RATE, format=format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def decode(data: bytes, start: int = 0, length: int | None = None) -> np.ndarray:
    """float32 (T,) of an encoded 16 kHz mono file, from sample ``start``, at most ``length`` samples of it.

    Raises ValueError when the bytes are not such a file.
    """
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            if file.samplerate != SAMPLE_RATE or file.channels != 1:
                raise ValueError(f"{file.samplerate} Hz with {file.channels} channels is not 16 kHz mono")
            file.seek(min(start, file.frames))
            return file.read(-1 if length is None else length, dtype="float32")
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


def _open(path: Path) -> sf.SoundFile:
    try:
        if path.is_dir():
            raise AudioError(path, "folder", "is a folder, not an audio file")
        if not path.exists():
            raise AudioError(path, "missing", "does not exist")
        if path.stat().st_size == 0:
            raise AudioError(path, "empty", "has no bytes")
        file = sf.SoundFile(path)
    except (sf.SoundFileError, OSError, TypeError) as error:  # TypeError: a name in .raw
        raise AudioError(path, "unreadable", f"cannot be decoded ({_cause(error)})") from error
    if file.frames == 0:
        file.close()
        raise AudioError(path, "empty", "has no samples")
    return file


def _read(file: sf.SoundFile, path: Path, begin: int, until: int) -> np.ndarray:
    """Mono float32 of the frames from ``begin`` to ``until``."""
    try:
        file.seek(begin)
        samples = file.read(until - begin, dtype="float32", always_2d=True)
    except MemoryError:  # as a rule from a damaged header
        length = (until - begin) / file.samplerate
        raise AudioError(path, "unreadable", f"announces {length:g} s of audio, more than memory holds") from None
    except sf.SoundFileError as error:
        raise AudioError(path, "unreadable", f"cannot be decoded ({_cause(error)})") from error
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise AudioError(path, "not_finite", "has samples that are NaN or infinite")
    return np.ascontiguousarray(mono)


def _levelled(samples: np.ndarray, path: Path, level: Level) -> np.ndarray:
    if np.ptp(samples) < 2 * SILENCE:
        raise AudioError(path, "silent", "is silent in the asked stretch (it varies by less than −90 dBFS)")
    peak = float(np.abs(samples).max())
    if level == "peak":
        return samples * np.float32(PEAK / peak)
    if level == "rms":
        rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        return samples * np.float32(min(RMS / rms, 1 / peak))
    if peak > OVER_RANGE:
        raise AudioError(path, "over_range", f"peaks at {peak:.3g} where full scale is 1: scale it, or set level=peak")
    return np.clip(samples, -1, 1)


def _at_16k(frames: int, rate: int) -> int:
    """Samples at 16 kHz of so many frames at ``rate``: rounded, halves up."""
    return (2 * frames * SAMPLE_RATE + rate) // (2 * rate)


def _cause(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip(" .")
