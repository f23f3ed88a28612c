"""MP3 and its older layers: what a file's index says, and how many frames follow each other."""

import io
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from w2v_abx.audio.headers import tag_bytes

__all__ = ["AHEAD_SAMPLES", "FROM_START_SECONDS", "MIN_FRAME_BYTES", "Unindexed", "count_frames", "index"]

# Samples of 16 frames, from which a span is decoded ahead: a frame borrows up to 511 bytes from those before, and
# libsndfile goes back by less (at 24 kbit/s, samples were off by -30 dB).
AHEAD_SAMPLES = 16 * 1_152
# s: a span nearer to its start is decoded from there on, 1 ms a second; where it seeks, mpg123 talks to the terminal.
FROM_START_SECONDS = 30.0
MIN_FRAME_BYTES = 24
# The number of frames, behind flags of which the last says that it is there.
INDEX = re.compile(rb"(?s)(?:(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI.{10})(.{4})")
TAG_BYTES = 128  # of ID3v1
# kbit/s by what 4 bits of a frame's header say from 1 on: of MPEG 1 by layer, and of MPEG 2 and 2.5.
RATES_1 = {
    1: range(32, 449, 32),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
RATES_2 = {
    1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class Unindexed(io.FileIO):
    """An MP3 whose length libsndfile does not guess by the size of its file, but finds by reading every frame's header.

    The guess is off wherever the bit rate changes, and what comes after it is dropped. Told that the file has no bytes,
    libsndfile's decoder (mpg123) looks at all of it, which takes 0.1 ms for each second of audio. Samples are ffmpeg's
    to 2e-6, and as many.
    """

    _asked = False

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END and offset == 0 and not self._asked:
            self._asked = True  # by libsndfile itself, for which it must have some
        elif whence == os.SEEK_END and offset == 0:
            return super().seek(0)
        return super().seek(offset, whence)


class Index(NamedTuple):
    """How many frames an MP3 has by its first, and where in the file that stands."""

    place: int
    frames: int


def index(path: Path) -> Index | None:
    """The index of an MP3; None where it has none."""
    with path.open("rb") as file:
        begin = tag_bytes(file.read(10))
        file.seek(begin)
        head = file.read(4096)
    found = INDEX.search(head)
    return found and Index(begin + found.start(1), int.from_bytes(found[1]))


def count_frames(path: Path) -> tuple[int, int]:
    """How many frames follow each other from a file's start on, that of an index included, and how many bytes then.

    Zeros do not count, and it is less than none where the last frame breaks off. What follows, libsndfile leaves out.
    """
    content, position, frames = path.read_bytes(), 0, 0
    while position < len(content):
        if size := _frame_bytes(content[position : position + 3]):
            frames += 1
        elif content.startswith(b"ID3", position):
            size = tag_bytes(content[position : position + 10])
        elif content.startswith(b"TAG", position):
            size = TAG_BYTES
        else:
            break
        position += size
    return frames, min(0, len(content) - position) or len(content[position:].strip(b"\0"))


@lru_cache(maxsize=1024)
def _frame_bytes(head: bytes) -> int:
    """How long a frame is by its first three bytes; 0 for one that does not say, and for other bytes."""
    if len(head) < 3 or head[0] != 0xFF or head[1] < 0xE0:
        return 0
    version, layer, rate, hertz = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 0 < rate < 15 or hertz == 3:
        return 0
    of_first = version == 3
    bits = 1000 * (RATES_1[layer] if of_first else RATES_2[min(layer, 2)])[rate - 1]
    hertz = (44_100, 48_000, 32_000)[hertz] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == 1:
        return (12 * bits // hertz + (head[2] >> 1 & 1)) * 4
    return (144 if of_first or layer == 2 else 72) * bits // hertz + (head[2] >> 1 & 1)
