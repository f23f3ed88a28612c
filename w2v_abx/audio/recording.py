"""An audio file opened for reading spans of it, by libsndfile where it can, else by ffmpeg."""

import os
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile as sf

from w2v_abx.audio.error import AudioError
from w2v_abx.audio.ffmpeg import FfmpegRecording

__all__ = ["Recording", "open_recording"]

LAST_PAGES_BYTES = 2 * 65_307  # bytes in which the last two pages of an Ogg file lie
MAX_BLOCK_SAMPLES = 8_192  # samples of Vorbis
RATE_RANGE = (1_000, 1_000_000)  # Hz: beyond these a header is damaged
MAX_SHORTFALL_SECONDS = 0.1  # s by which an MP3 may be shorter than its index says


class SoundFileRecording:
    """An audio file of ``rate`` Hz that libsndfile decodes; raises `AudioError` (unreadable).

    ``frames`` is its length; where that is not ``exact``, what its container announces.
    """

    def __init__(self, path: Path, file: sf.SoundFile) -> None:
        self.path, self._file = path, file
        self.rate, self.frames = file.samplerate, file.frames
        self.exact = file.format != "MP3"
        # libsndfile's seeks go wrong within the last page of Vorbis, by as much as the encoder padded it.
        self._trusted = _last_page(path) - MAX_BLOCK_SAMPLES if file.subtype == "VORBIS" else self.frames

    def read(self, begin: int, until: int | None) -> np.ndarray:
        """float32 (T, channels) of the frames from ``begin`` to ``until`` (None: the end), fewer where the audio ends.

        Raises `AudioError` (unreadable) where it breaks off.
        """
        stop = self.frames if until is None else min(until, self.frames)
        if begin >= stop:
            return np.zeros((0, self._file.channels), np.float32)
        ahead = begin if begin <= self._trusted else max(0, self._trusted)
        try:
            self._file.seek(ahead)
            samples = self._decode(stop - ahead)[begin - ahead :]
        except MemoryError:  # as a rule from a damaged header
            length = (stop - begin) / self.rate
            raise AudioError(
                self.path, "unreadable", f"announces {length:g} s of audio, more than memory holds"
            ) from None
        except sf.SoundFileError as error:
            raise AudioError(self.path, "unreadable", f"cannot be decoded ({_cause(error)})") from error
        missing = stop - begin - len(samples)
        if missing > (0 if self.exact else MAX_SHORTFALL_SECONDS * self.rate):
            raise AudioError(self.path, "unreadable", f"breaks off after {(begin + len(samples)) / self.rate:g} s")
        return samples

    def _decode(self, frames: int) -> np.ndarray:
        if self._file.subtype != "PCM_16":
            return self._file.read(frames, dtype="float32", always_2d=True)
        # What libsndfile's own conversion gives, in a third of the time.
        return self._file.read(frames, dtype="int16", always_2d=True) * np.float32(1 / 32768)

    def length(self) -> int:
        """The exact number of frames, which may take some decoding."""
        if self.exact:
            return self.frames
        begin = max(0, self.frames - self.rate)
        return begin + len(self.read(begin, None))

    def close(self) -> None:
        self._file.close()


Recording = SoundFileRecording | FfmpegRecording


def open_recording(path: Path) -> closing[Recording]:
    """The file at ``path``, to be used in a ``with``.

    Raises `AudioError` with the reason missing, folder, empty, compressed, no_audio, not_audio, unreadable or timeout.
    """
    recording = _open(path)
    if not RATE_RANGE[0] <= recording.rate <= RATE_RANGE[1]:
        recording.close()
        raise AudioError(path, "unreadable", f"gives its sample rate as {recording.rate} Hz")
    return closing(recording)


def _open(path: Path) -> Recording:
    try:
        if path.is_dir():
            raise AudioError(path, "folder", "is a folder, not an audio file")
        if not path.exists():
            raise AudioError(path, "missing", "does not exist")
        if path.stat().st_size == 0:
            raise AudioError(path, "empty", "has no bytes")
        file = sf.SoundFile(path)
    except TypeError as error:  # soundfile asks for the rate of a name in .raw
        raise AudioError(path, "unreadable", "is raw samples by its name: convert it to .wav") from error
    except OSError as error:
        raise AudioError(path, "unreadable", f"cannot be opened ({error.strerror or error})") from error
    except sf.SoundFileError as error:
        return _open_otherwise(path, error)
    if file.frames == 0:
        file.close()
        raise AudioError(path, "empty", "has no samples")
    if file.format == "MP3" and not _has_index(path):
        file.close()  # libsndfile would guess its length, and drop what comes after it
        return FfmpegRecording(path)
    return SoundFileRecording(path, file)


def _open_otherwise(path: Path, error: sf.SoundFileError) -> Recording:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as denied:
        raise AudioError(path, "unreadable", f"cannot be opened ({denied.strerror or denied})") from denied
    if head.startswith(b"NIST_1A") and (coding := re.search(rb"(?m)^sample_coding -s\d+ .*embedded-(\w+)", head)):
        how = coding[1].decode()
        message = (
            f"is NIST SPHERE compressed with {how}: unpack it with `sph2pipe -f wav IN OUT` or `w_decode -o pcm IN OUT`"
        )
        raise AudioError(path, "compressed", message)
    damaged = AudioError(path, "unreadable", f"cannot be decoded ({_cause(error)})")
    if head.startswith(b"fLaC"):  # ffmpeg would hide the damage
        raise damaged from error
    try:
        return FfmpegRecording(path)
    except AudioError as refused:
        if refused.reason == "not_audio" and head.startswith((b"RIFF", b"NIST_1A")):
            raise damaged from error
        raise


def _has_index(path: Path) -> bool:
    """Whether the first frame of an MP3 says how many there are."""
    with path.open("rb") as file:
        head = file.read(10)
        if head.startswith(b"ID3"):  # its size: 7 bits a byte
            file.seek(10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
        else:
            file.seek(0)
        head = file.read(4096)
    return any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))


def _last_page(path: Path) -> int:
    """Where the audio of an Ogg file's last page begins, in frames."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_PAGES_BYTES))
        tail = file.read()
    pages = [match.start() + 6 for match in re.finditer(rb"OggS\0", tail) if match.start() + 14 <= len(tail)]
    ends = sorted({int.from_bytes(tail[page : page + 8], "little", signed=True) for page in pages})
    return max(0, ends[-2]) if len(ends) > 1 else 0


def _cause(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip(" .")
