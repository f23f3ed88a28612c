"""Recordings that libsndfile cannot decode (m4a, mp4, webm, mkv, wma, …), through the ffmpeg of imageio-ffmpeg.

Time 0 is the first sample that a decoder gives once the encoder's delay is taken off where the container declares it
(an edit list in mp4, the pre-skip of Opus), as players do; raw AAC, fragmented mp4 and mpegts declare none, and it
stays. Of several audio streams the first is read.

Only the asked span is decoded, from half a second earlier on so that the codec has settled. Where it then stands is
read off the decoded frames' timestamps; those that a container rounds are put back onto the codec's frames.
"""

import math
import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from w2v_abx.audio.error import AudioError
from w2v_abx.errors import InputError

__all__ = ["FfmpegRecording"]

# ffmpeg's names of the containers in which a seek was measured to land on the very sample (tests/audio/test_ffmpeg.py).
# In any other, the file is decoded from its start up to the span's end: in the last page of an Ogg FLAC a seek lands up
# to a second early, and in joined mpegts the timestamps begin anew.
SEEKABLE = {"mov", "matroska", "asf", "flv", "avi", "aac", "amr", "wv"}
COARSE = {"matroska", "asf", "flv"}  # of these, those whose timestamps are coarser than a sample
TIMESTAMP_SECONDS = 0.002  # s: how far such a timestamp may be off, the one at the file's start included
PREROLL_SECONDS = 0.5  # s: Opus settles in 0.3 s, the others sooner
TAIL_SECONDS = 1.0  # s, decoded to learn a file's length
MAX_SHORTFALL_SECONDS = 0.1  # s by which containers may overstate their length
PROBED_FRAMES = 8  # frames
MAX_TIMEOUT_SECONDS = 36_000.0  # s, whatever length a header claims
TIMEOUT_SECONDS, TIMEOUT_PER_SECOND = 60.0, 0.2  # s, and s per second of audio, before ffmpeg is given up


class Answer(NamedTuple):
    code: int
    output: bytes
    frames: list[tuple[int, int]]  # start and length, in samples, of the first few that were decoded
    rate: int
    channels: int
    log: str


class FfmpegRecording:
    """An audio file that ffmpeg decodes; see `w2v_abx.audio.recording.SoundFileRecording`.

    Raises `AudioError` (no_audio, not_audio, unreadable, timeout), and `InputError` when ffmpeg itself cannot be used.
    """

    exact = False

    def __init__(self, path: Path) -> None:
        self.path = path
        answer = _ffmpeg(path, [], frames=PROBED_FRAMES, level="info")
        if answer.code:
            raise _refusal(path, answer.log)
        if not answer.frames:
            raise AudioError(path, "empty", "has no samples")
        container = re.search(r"(?m)^\[info\] Input #0, (\S+), from ", answer.log)
        self._formats = set(container[1].split(",")) if container else set()
        self.rate, self.channels = answer.rate, answer.channels
        self._begin, self._first = answer.frames[0]
        codec = re.search(r"(?m)^\[info\] +Stream #0:.*: Audio: (\w+)", answer.log)
        # Vorbis alternates between two block sizes; their starts are multiples of a quarter of the shorter.
        lengths = [length for _, length in answer.frames[1:-1]]
        self._step = 64 if codec and codec[1] == "vorbis" else math.gcd(*lengths)
        span = re.search(r"(?m)^\[info\]   Duration: (?:(\d+):(\d+):([\d.]+)|N/A)(?:, start: (-?[\d.]+))?", answer.log)
        seconds = int(span[1]) * 3600 + int(span[2]) * 60 + float(span[3]) if span and span[1] else 0.0
        self._container_start = float(span[4]) if span and span[4] else 0.0
        self.frames = math.floor(seconds * self.rate)
        # The container's length is that of its longest stream.
        alone = len(re.findall(r"(?m)^\[info\] +Stream #0:", answer.log.partition("[info] Stream mapping:")[0])) == 1
        self._announced = self.frames if alone and "Estimating duration" not in answer.log else 0

    def read(self, begin: int, until: int | None) -> np.ndarray:
        """float32 (T, channels) of the frames from ``begin`` to ``until``, fewer where the audio ends before."""
        ahead = begin - round(PREROLL_SECONDS * self.rate)
        found = self._seek(ahead, begin, until) if ahead > 0 and self._formats & SEEKABLE else None
        samples = self._decode_from_start(begin, until) if found is None else found
        if until is None or len(samples) < until - begin:
            end = begin + len(samples)
            if end < self._announced - MAX_SHORTFALL_SECONDS * self.rate and (len(samples) or begin < self._announced):
                raise AudioError(
                    self.path, "unreadable", f"breaks off {'after' if len(samples) else 'before'} {end / self.rate:g} s"
                )
        return samples

    def length(self) -> int:
        """Frames of the whole file; decodes the last second only, wherever the container says where that is."""
        begin = max(0, self.frames - round(TAIL_SECONDS * self.rate))
        tail = self.read(begin, None)
        while not len(tail) and begin:  # the picture may last longer than the sound
            begin = max(0, self.frames - 4 * (self.frames - begin))
            tail = self.read(begin, None)
        return begin + len(tail)

    def close(self) -> None:
        """Nothing stays open between reads."""

    def _seek(self, ahead: int, begin: int, until: int | None) -> np.ndarray | None:
        """As `read`, from a seek to ``ahead``; None where it did not land before ``begin``, or not on a sound file."""
        at = (self._begin + ahead) / self.rate - self._container_start
        options = ["-ss", f"{at:.6f}"]
        if until is not None:
            options += ["-t", f"{(until - ahead) / self.rate + 4 * TIMESTAMP_SECONDS:.6f}"]
        answer = _ffmpeg(self.path, options, output=self._output(), seconds=self._seconds(ahead, until))
        if answer.code or len(answer.frames) < 2:
            return None
        (_, first), (second, _) = answer.frames[:2]
        onset = second - self._begin
        if self._formats & COARSE and self._step > TIMESTAMP_SECONDS * self.rate / 2:
            nearest = self._first + round((onset - self._first) / self._step) * self._step
            if abs(nearest - onset) <= TIMESTAMP_SECONDS * self.rate:
                onset = nearest
        skip = begin - (onset - first)
        if skip < 0:
            return None
        samples = self._shaped(answer.output)[skip:]
        return samples if until is None else samples[: until - begin]

    def _decode_from_start(self, begin: int, until: int | None) -> np.ndarray:
        trim = f"atrim=start_sample={begin}" + ("" if until is None else f":end_sample={until}")
        output = ["-af", trim, *self._output()]
        answer = _ffmpeg(self.path, [], output=output, seconds=self._seconds(0, until))
        if answer.code:
            raise _refusal(self.path, answer.log)
        return self._shaped(answer.output)

    def _output(self) -> list[str]:
        # Without effect unless the stream changes its form on the way.
        return ["-ar", str(self.rate), "-ac", str(self.channels), "-f", "f32le"]

    def _seconds(self, begin: int, until: int | None) -> float:
        return ((self.frames if until is None else until) - begin) / self.rate

    def _shaped(self, output: bytes) -> np.ndarray:
        whole = len(output) // (4 * self.channels) * self.channels
        return np.frombuffer(output, "<f4", whole).reshape(-1, self.channels)


def _ffmpeg(
    path: Path,
    options: Sequence[str],
    output: Sequence[str] = (),
    frames: int = 2,
    level: str = "error",
    seconds: float = 0.0,
) -> Answer:
    """Decode with ``options`` before the input into ``output``; with or without it, list the first ``frames``.

    The input is a file handle and `fd` the only protocol allowed, so that nothing that the file names (a playlist's
    entries, on this disk or on the net) can be opened.
    """
    executable = _executable()
    try:
        file = path.open("rb")
    except OSError as error:
        raise AudioError(path, "unreadable", f"cannot be opened ({error.strerror or error})") from error
    reader, writer = os.pipe()  # the list stays far below what a pipe holds
    command = [executable, "-nostdin", "-hide_banner", "-loglevel", f"level+{level}"]
    command += ["-xerror", "-protocol_whitelist", "fd"]  # an error in a packet is an error; no concealment
    # seek2any: a seek need not go back to the picture's last key frame.
    command += [*options, "-seek2any", "1", "-copyts", "-vn", "-sn", "-dn", "-threads", "1", "-i", "fd:"]
    if output:
        command += ["-map", "0:a:0", *output, "pipe:1"]
    command += ["-map", "0:a:0", "-frames:a", str(frames), "-c:a", "pcm_f32le", "-f", "framecrc", f"pipe:{writer}"]
    patience = min(TIMEOUT_SECONDS + TIMEOUT_PER_SECOND * max(0.0, seconds), MAX_TIMEOUT_SECONDS)
    try:
        done = subprocess.run(
            command, stdin=file, capture_output=True, pass_fds=[writer], timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        raise AudioError(path, "timeout", f"ffmpeg was still decoding it after {patience:.0f} s") from None
    except OSError as error:
        raise InputError(f"ffmpeg cannot be run ({error}): set IMAGEIO_FFMPEG_EXE to one that can") from error
    finally:
        file.close()
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            listing = pipe.read().decode(errors="replace")
    log = done.stderr.decode(errors="replace")
    if "Protocol not found" in log:
        raise InputError(
            f"{executable} is too old to read from a file handle: set IMAGEIO_FFMPEG_EXE to ffmpeg 7 or later"
        )
    rows = re.findall(r"(?m)^0, +-?\d+, +(-?\d+), +(\d+), +(\d+),", listing)
    rate = re.search(r"(?m)^#sample_rate 0: (\d+)", listing)
    channels = int(rows[0][2]) // int(rows[0][1]) // 4 if rows and int(rows[0][1]) else 0
    listed = [(int(start), int(length)) for start, length, _ in rows] if channels and rate else []
    return Answer(done.returncode, done.stdout, listed, int(rate[1]) if rate else 0, channels, log)


@cache
def _executable() -> str:
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise InputError(
            "no ffmpeg for audio that libsndfile cannot decode: run `pip install imageio-ffmpeg`, or set "
            "IMAGEIO_FFMPEG_EXE to one"
        ) from error


def _refusal(path: Path, log: str) -> AudioError:
    if "matches no streams" in log:
        return AudioError(path, "no_audio", "holds no audio stream")
    causes = re.findall(r"(?m)^\[[^]]+ @ [^]]+\] .*?\[(?:error|fatal)\] (.+?)[ .]*$", log)
    if not causes or causes[0].startswith("Error opening input: Invalid data found"):
        return AudioError(path, "not_audio", "is not audio: neither libsndfile nor ffmpeg knows its format")
    return AudioError(path, "unreadable", f"cannot be decoded ({causes[0]})")
