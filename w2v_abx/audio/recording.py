"""An audio file opened for reading spans of it, by libsndfile where it can, else by ffmpeg."""

import io
import os
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from w2v_abx.audio.error import AudioError
from w2v_abx.audio.ffmpeg import FfmpegRecording
from w2v_abx.audio.headers import MAX_PARTS, Part, parts
from w2v_abx.audio.mpeg import AHEAD_SAMPLES, FROM_START_SECONDS, MIN_FRAME_BYTES, Unindexed, count_frames, index

__all__ = ["Recording", "open_recording"]

MAX_BLOCK_SAMPLES = 8_192  # samples of Vorbis
BROKEN_FRAME = "breaks off in the midst of a frame"
RATE_RANGE = (1_000, 1_000_000)  # Hz: beyond these a header is damaged
# Formats of libsndfile whose claims `headers` reads, or that make none.
READ_BY_US = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "SVX", "AU", "NIST", "FLAC", "OGG", "MP3", "PAF", "IRCAM"}
MAX_SHORTFALL_SECONDS = 0.1  # s by which an MP3 may be shorter than its index says


class _PartFile(io.FileIO):
    """One recording of a file as if it were alone in it, with what `headers.Part` writes over its header."""

    def __init__(self, path: Path, part: Part) -> None:
        super().__init__(path)
        self._part = part
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: self._part.begin, os.SEEK_CUR: super().tell(), os.SEEK_END: self._part.end}[whence]
        return super().seek(max(self._part.begin, base + offset)) - self._part.begin

    def tell(self) -> int:
        return super().tell() - self._part.begin

    def readinto(self, buffer: Any, /) -> int:
        at = super().tell()
        view = memoryview(buffer).cast("B")[: max(0, self._part.end - at)]
        count = super().readinto(view) or 0
        place, content = self._part.patch or (at, b"")
        for position in range(max(at, place), min(at + count, place + len(content))):
            view[position - at] = content[position - place]
        return count


class SoundFileRecording:
    """An audio file of ``rate`` Hz that libsndfile decodes; raises `AudioError` (unreadable).

    ``frames`` is its length; where that is not ``exact``, what its container announces, or what is left of it.
    """

    def __init__(self, path: Path, file: sf.SoundFile, part: Part, source: io.FileIO | None = None) -> None:
        self.path, self._file, self._source = path, file, source
        self.rate, self.channels, self.frames = file.samplerate, file.channels, file.frames
        self._claimed: float = max(1, self.frames) * part.claimed if part.claimed > 1 else self.frames
        self._mp3 = file.subtype.startswith("MPEG")
        self.exact = not self._mp3 and self._claimed <= self.frames
        # libsndfile's seeks go wrong within the last page of Vorbis, by as much as the encoder padded it.
        self._trusted = part.settled - MAX_BLOCK_SAMPLES if file.subtype == "VORBIS" else self.frames

    def read(self, begin: int, until: int | None) -> np.ndarray:
        """float32 (T, channels) of the frames from ``begin`` to ``until`` (None: the end), fewer where the audio ends.

        Raises `AudioError` (unreadable) where it breaks off.
        """
        stop = self.frames if until is None else min(until, self.frames)
        if begin < self._claimed > self.frames and (until is None or until > self.frames):
            raise self._breaks_off(self.frames)
        if begin >= stop:
            if self._mp3 and begin < self.length():
                return self.read(begin, until)
            return np.zeros((0, self.channels), np.float32)
        ahead = begin if begin <= self._trusted else max(0, self._trusted)
        if self._mp3:
            ahead = begin - AHEAD_SAMPLES if begin > FROM_START_SECONDS * self.rate else 0
        try:
            self._file.seek(ahead)
            samples = self._decode(stop - ahead)[begin - ahead :]
        except (MemoryError, ValueError):  # as a rule from a damaged header
            length = (stop - begin) / self.rate
            raise AudioError(
                self.path, "unreadable", f"announces {length:g} s of audio, more than memory holds"
            ) from None
        except sf.SoundFileError as error:
            raise AudioError(self.path, "unreadable", f"cannot be decoded ({_cause(error)})") from error
        missing = stop - begin - len(samples)
        if missing > (MAX_SHORTFALL_SECONDS * self.rate if self._mp3 else 0):
            raise self._breaks_off(begin + len(samples), "after" if len(samples) else "before")
        if self._mp3 and stop == self.frames and self._goes_on():
            return self.read(begin, until)
        return samples

    def _decode(self, frames: int) -> np.ndarray:
        if self._file.subtype != "PCM_16":
            return self._file.read(frames, dtype="float32", always_2d=True)
        # What libsndfile's own conversion gives, in a third of the time.
        return self._file.read(frames, dtype="int16", always_2d=True) * np.float32(1 / 32768)

    def _goes_on(self) -> bool:
        """Whether there are more frames than the index of an MP3 counts, which then counts for nothing."""
        found = index(self.path)
        if found is None or self._source:
            return False
        frames, behind = count_frames(self.path)
        if behind < 0:
            raise AudioError(self.path, "unreadable", BROKEN_FRAME)
        if frames <= found.frames + 1:  # its own is one more
            return False
        self.close()
        size = self.path.stat().st_size
        most = min(size // MIN_FRAME_BYTES, (1 << 31) - 1)  # frames
        self._source = _PartFile(self.path, Part(0, size, patch=(found.place, most.to_bytes(4))))
        self._claimed = self.frames = 0
        try:
            self._file = sf.SoundFile(self._source)
            while count := len(self._file.read(1 << 20, dtype="float32")):
                self._claimed = self.frames = self.frames + count
        except sf.SoundFileError as error:
            raise AudioError(self.path, "unreadable", f"cannot be decoded ({_cause(error)})") from error
        return True

    def _breaks_off(self, frames: int, where: str = "after") -> AudioError:
        announced = f" of the {self._claimed / self.rate:.4g} s that it announces" if self._claimed < np.inf else ""
        return AudioError(self.path, "unreadable", f"breaks off {where} {frames / self.rate:g} s{announced}")

    def length(self) -> int:
        """The exact number of frames, which may take some decoding."""
        if self._claimed > self.frames:
            raise self._breaks_off(self.frames)
        if not self._mp3:
            return self.frames
        begin = max(0, self.frames - self.rate)
        samples = self.read(begin, None)
        return begin + len(samples)

    def close(self) -> None:
        _close(self._source, self._file)


class JoinedRecording:
    """Recordings that one file holds one after the other, such as a chained Ogg; raises `AudioError` (unreadable).

    Each is opened where it is read: there may be more than a process may have open.
    """

    exact = True

    def __init__(self, path: Path, found: Sequence[Part]) -> None:
        self.path, self._parts, self._lengths = path, found, list[int]()
        if len(found) >= MAX_PARTS:
            raise AudioError(path, "unreadable", f"joins {MAX_PARTS} recordings or more: split it")
        kinds = set()
        for part in found:
            with closing(self._open(part)) as recording:
                kinds.add((recording.rate, recording.channels))
                self._lengths.append(recording.length())
        self.rate, self.channels = min(kinds)
        self.frames = sum(self._lengths)
        if len(kinds) > 1:
            what = " and of ".join(f"{rate} Hz in {channels} channels" for rate, channels in sorted(kinds))
            raise AudioError(path, "unreadable", f"joins recordings of {what}: split it")

    def _open(self, part: Part) -> SoundFileRecording:
        source = _PartFile(self.path, part)
        try:
            file = sf.SoundFile(source)
            if not _counts(file):
                raise sf.SoundFileError("libsndfile cannot count in it")
            return SoundFileRecording(self.path, file, part, source)
        except sf.SoundFileError:
            source.close()
            raise

    def read(self, begin: int, until: int | None) -> np.ndarray:
        """As `SoundFileRecording.read`, across the recordings."""
        found, first = [np.zeros((0, self.channels), np.float32)], 0
        for part, length in zip(self._parts, self._lengths, strict=True):
            start, stop = max(0, begin - first), length if until is None else min(length, until - first)
            if start < stop:
                with closing(self._open(part)) as recording:
                    found.append(recording.read(start, stop))
            first += length
        return np.concatenate(found)

    def length(self) -> int:
        return self.frames

    def close(self) -> None:
        """Nothing stays open between reads."""


Recording = SoundFileRecording | JoinedRecording | FfmpegRecording


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
    source: io.FileIO | None = None
    part = Part(0, 0)
    try:
        _check_file(path)
        part, *others = parts(path)
        if others:
            return _open_joined(path, [part, *others])
        source = _PartFile(path, part) if part.patch else None
        file = sf.SoundFile(source or path)
    except TypeError as error:  # soundfile asks for the rate of a name in .raw
        raise AudioError(path, "unreadable", "is raw samples by its name: convert it to .wav") from error
    except OSError as error:
        raise AudioError(path, "unreadable", f"cannot be opened ({error.strerror or error})") from error
    except sf.SoundFileError as error:
        _close(source)
        return _open_otherwise(path, error, part)
    if file.frames == 0 or not _counts(file):
        frames = file.frames
        _close(file, source)
        if frames == 0 and part.claimed > 1:
            raise AudioError(path, "unreadable", "breaks off before its first sample")
        if frames == 0:
            raise AudioError(path, "empty", "has no samples")
        by_frames = file.format == "MP3" and file.seekable()
        return _open_mp3(path, part) if by_frames else _by_ffmpeg(path, part)
    if file.format not in READ_BY_US:
        part = part._replace(claimed=_logged(file))
    return SoundFileRecording(path, file, part, source)


def _counts(file: sf.SoundFile) -> bool:
    """Whether libsndfile knows a file's length: it guesses that of MP3, and decodes the chunks' heads in a VOC."""
    return bool(file.seekable()) and file.format != "VOC" and not file.subtype.startswith("MPEG")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise AudioError(path, "folder", "is a folder, not an audio file")
    if not path.exists():
        raise AudioError(path, "missing", "does not exist")
    if not path.is_file():  # to open a pipe would wait for its writer
        raise AudioError(path, "unreadable", "is neither a file nor a link to one")
    if path.stat().st_size == 0:
        raise AudioError(path, "empty", "has no bytes")


def _open_joined(path: Path, found: Sequence[Part]) -> Recording:
    try:
        return JoinedRecording(path, found)
    except sf.SoundFileError as error:
        with path.open("rb") as file:
            if file.read(4) == b"OggS":  # ffmpeg reads one link of a chain after the other
                return _by_ffmpeg(path, found[-1])
        message = f"holds {len(found)} recordings one after the other: split it"
        raise AudioError(path, "unreadable", message) from error


def _open_mp3(path: Path, part: Part) -> Recording:
    if index(path):
        return SoundFileRecording(path, sf.SoundFile(path), part)
    _, behind = count_frames(path)
    if behind < 0:
        raise AudioError(path, "unreadable", BROKEN_FRAME)
    if not behind:
        source = Unindexed(path)
        try:
            return SoundFileRecording(path, sf.SoundFile(source), part, source)
        except sf.SoundFileError:
            source.close()
    return FfmpegRecording(path)  # it says what is damaged


def _by_ffmpeg(path: Path, part: Part) -> FfmpegRecording:
    """Raises `AudioError` where the header does not tell the length: ffmpeg would take the shorter one."""
    if part.claimed != 1:
        message = "breaks off" if part.claimed > 1 else "goes on after the length that its header tells: convert it"
        raise AudioError(path, "unreadable", message)
    return FfmpegRecording(path)


def _logged(file: sf.SoundFile) -> float:
    """How much a header of a rarer format claims, by what libsndfile noted of it, over what there is."""
    log = file.extra_info
    frames = [int(count) for count in re.findall(r"(?m)^ *Frames +: (\d+)", log)]
    return float("inf") if re.search("truncated|should be", log) else max([*frames, file.frames]) / file.frames


def _close(*opened: io.FileIO | sf.SoundFile | None) -> None:
    for one in reversed(opened):
        if one is not None:
            one.close()


def _open_otherwise(path: Path, error: sf.SoundFileError, part: Part) -> Recording:
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
        return _by_ffmpeg(path, part)
    except AudioError as refused:
        if refused.reason == "not_audio" and head.startswith((b"RIFF", b"NIST_1A")):
            raise damaged from error
        raise


def _cause(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip(" .")
