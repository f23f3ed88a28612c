"""What the header of an audio file claims, against what follows it.

libsndfile and ffmpeg take the shorter of the two without a word: half a WAV is a WAV of half the length, and of files
joined end to end the first is read. So the claim is read here, once for all containers of chunks (WAV, RF64, W64, AIFF,
AIFC, 8SVX, CAF) and for AU, SPHERE, FLAC and Ogg, in 20 to 60 µs. A claim beyond the file's end means that it breaks
off; a smaller one, or none (a recorder that was killed or that wrote into a pipe), is to be written over in memory, so
that all is read.
"""

import os
import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from w2v_abx.audio.flac import last_frame

__all__ = ["MAX_PARTS", "Part", "parts", "tag_bytes"]

FEW_BYTES = 128  # behind the audio, which are not looked at
MAX_PARTS = 10_000  # recordings of one file that are looked for
LAST_PAGES_BYTES = 2 * 65_307  # bytes in which the last two pages of an Ogg file lie
TRAILING_BYTES = 65_536  # bytes of tags that may follow the last frame of a FLAC
SEARCHED_BYTES = 8 << 20  # bytes: in a larger file, others are looked for only where its end is not that of its start
BLOCK_BYTES = 1 << 20  # bytes that are searched at once
MAX_CHUNKS = 10_000  # of a file, before its header is given up
TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")  # what players put behind the audio


class Part(NamedTuple):
    """One recording in a file of one or several.

    Args:
        begin, end: where it lies, in bytes.
        claimed: the audio that its header claims, by what there is: above 1 it breaks off (infinity: somewhere).
        patch: where in the file to write what over its header, so that a decoder reads all there is.
        settled, serial: of Ogg, the samples before its last page, and the number of the stream there.
    """

    begin: int
    end: int
    claimed: float = 1.0
    patch: tuple[int, bytes] | None = None
    settled: int = 0
    serial: bytes = b""


class Container(NamedTuple):
    """How a container writes its chunks."""

    first: int  # bytes before the first
    name: int  # bytes of a name
    size: str  # of `struct`
    own: int  # bytes of a chunk's head that its size counts in
    align: int
    ahead: int = 0  # bytes of the data chunk before its samples


RIFF = Container(12, 4, "<I", 0, 2)
CONTAINERS = {
    b"RIFF": RIFF,
    b"RF64": RIFF,
    b"BW64": RIFF,
    b"RIFX": RIFF._replace(size=">I"),
    b"FORM": Container(12, 4, ">I", 0, 2, ahead=8),
    b"riff": Container(40, 16, "<Q", 24, 8),
    b"caff": Container(8, 4, ">q", 0, 1, ahead=4),
    b".snd": Container(8, 0, ">I", 0, 1),
    b"dns.": Container(8, 0, "<I", 0, 1),
}
DATA = (b"data", b"SSND", b"BODY")
# How recordings begin of which several may be joined, by what a file begins with: FLAC, Ogg, ISO media, Matroska, ASF,
# FLV, True Audio, Creative Voice.
OPENINGS = {
    b"fLaC": re.compile(rb'fLaC\0\0\0"'),
    b"OggS": re.compile(rb"OggS\0[\x02\x06]"),
    b"ftyp": re.compile(rb"(?s)....ftyp(?:M4A |M4B |mp4|isom|iso\d|qt  |3gp|dash|avc1|MSNV)"),
    b"\x1aE\xdf\xa3": re.compile(rb"(?s)\x1aE\xdf\xa3.{,40}?(?:matroska|webm)"),
    b"0&\xb2u": re.compile(rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel"),
    b"FLV\1": re.compile(rb"FLV\x01[\x01\x04\x05]\0\0\0\x09"),
    b"Crea": re.compile(rb"Creative Voice File\x1a"),
    b"TTA1": re.compile(rb"TTA1[\x01\x03]\0"),
}
PAGE_AFTER_THE_FIRST = re.compile(rb"OggS\0[\x00\x01\x04\x05]")


def parts(path: Path) -> list[Part]:
    """The recordings in a file, one after the other, `MAX_PARTS` at most; raises OSError."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        found = [_part(file, 0, status.st_size, status.st_mtime_ns)]
        while found[-1].end < status.st_size and len(found) < MAX_PARTS:
            found.append(_part(file, found[-1].end, status.st_size, status.st_mtime_ns))
        return found


def tag_bytes(head: bytes) -> int:
    """Bytes of the ID3v2 tag with which a file begins, whose ``head`` is at least 10 bytes; 0 where there is none."""
    if not head.startswith(b"ID3"):
        return 0
    return 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))


def _part(file: BinaryIO, begin: int, size: int, changed: int) -> Part:
    head = _read(file, begin, 1024)
    if tag := tag_bytes(head):
        is_flac = _read(file, begin + tag, 4) == b"fLaC"
        return _flac(file, begin, begin + tag, size) if is_flac else Part(begin, size)
    magic = head[4:8] if head[4:8] == b"ftyp" else head[:4]
    if container := CONTAINERS.get(magic):
        return _chunked(file, begin, size, container, magic)
    if magic == b"NIST":
        return _sphere(file, begin, size, head)
    if magic in OPENINGS:
        return _searched(file, begin, size, changed, magic)
    return Part(begin, size)


def _searched(file: BinaryIO, begin: int, size: int, changed: int, magic: bytes) -> Part:
    """A recording behind which others may follow without a word in its header."""

    def until(end: int) -> Part:
        if magic == b"OggS":
            return _ogg(file, begin, end)
        return _flac(file, begin, begin, end) if magic == b"fLaC" else Part(begin, end)

    whole, start = until(size), begin + len(magic)
    agree = whole.patch is None and whole.serial in (b"", _read(file, begin + 14, 4))
    if agree and size - begin > SEARCHED_BYTES:
        return whole
    if magic == b"OggS":
        start = _find(file.name, begin, size, changed, PAGE_AFTER_THE_FIRST)
    end = _find(file.name, start, size, changed, OPENINGS[magic])
    return whole if end == size else until(end)


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


@lru_cache(maxsize=1024)  # spans of one recording are read one by one
def _find(name: str, begin: int, end: int, changed: int, pattern: re.Pattern[bytes]) -> int:
    """Where in a file that was ``changed`` then, from ``begin`` on, something begins; ``end`` where nowhere."""
    with Path(name).open("rb") as file:
        for position in range(begin, end, BLOCK_BYTES):
            if match := pattern.search(_read(file, position, BLOCK_BYTES + 32)):
                return position + match.start()
    return end


def _chunks(file: BinaryIO, position: int, size: int, container: Container) -> Iterator[tuple[int, bytes, int, int]]:
    """Where each chunk begins, its name, what its size says, and where its content begins."""
    width = struct.calcsize(container.size)
    for _ in range(MAX_CHUNKS):
        if position + container.name + width > size:
            return
        head = _read(file, position, container.name + width)
        claim = struct.unpack_from(container.size, head, container.name)[0] - container.own
        start = position + len(head)
        yield position, head[:4], claim, start
        position = start + max(0, claim) + -claim % container.align


def _chunked(file: BinaryIO, begin: int, size: int, container: Container, magic: bytes) -> Part:
    if not container.name:  # AU: one chunk without a name, wherever its head says
        start, claim = struct.unpack(container.size[0] + "II", _read(file, begin + 4, 8).ljust(8, b"\0"))
        return _samples(file, begin, size, container, magic, begin + 8, claim, begin + start)
    wide: tuple[int, int] | None = None
    for position, name, claim, start in _chunks(file, begin + container.first, size, container):
        if name == b"ds64":
            wide = start + 8, int.from_bytes(_read(file, start + 8, 8), "little")
        elif name in DATA and wide and claim == 0xFFFFFFFF:
            return _samples(file, begin, size, container, magic, *wide, start, "<Q")
        elif name in DATA:
            ahead = 0 if name == b"BODY" else container.ahead
            container, field = container._replace(ahead=ahead), position + container.name
            return _samples(file, begin, size, container, magic, field, claim, start)
        elif not _plausible(name, claim, start, size):
            break
    return Part(begin, size)


def _samples(
    file: BinaryIO,
    begin: int,
    size: int,
    container: Container,
    magic: bytes,
    field: int,
    claim: int,
    start: int,
    code: str = "",
) -> Part:
    """Of a chunk from ``start`` on that claims so many bytes by its ``field``, written as ``code`` says."""
    there = size - start
    if there <= container.ahead:
        return Part(begin, size)
    patch = field, struct.pack(code or container.size, there + container.own)
    most = 1 << 8 * len(patch[1])
    # Written by those who do not know it yet: all ones, half of that, each less a header; 0.
    unknown = not 0 < claim < most - 8192 or abs(claim - (most >> 1)) <= 8192
    end = start + claim
    if unknown or claim <= container.ahead:
        empty = claim == container.ahead and _follows(file, end, size, container, magic) is not None
        return Part(begin, size) if empty else Part(begin, size, patch=patch)
    if claim > there:
        share = (claim - container.ahead) / (there - container.ahead)
        # Some writers count in the byte that pads, the header or all of it but the first chunk's head.
        counted_in = claim - there in (1, start - begin, start - begin - 8)
        return Part(begin, size, 1.0 if counted_in else share, patch)
    for position in (end + -claim % max(2, container.align), end):
        if (follows := _follows(file, position, size, container, magic)) is not None:
            return Part(begin, follows)
    return Part(begin, size, claim / there, patch)


def _follows(file: BinaryIO, position: int, size: int, container: Container, magic: bytes) -> int | None:
    """Where the next recording begins behind one that ends at ``position``, or the file's end; None: more samples."""
    if size - position <= FEW_BYTES or _read(file, position, 8).startswith(TAGS):
        return size
    other = False
    for place, name, claim, start in _chunks(file, position, size, container):
        if name == magic:
            return place
        if not (container.name and _plausible(name, claim, start, size)):
            break
        other = True
    else:
        return size
    if other:
        return size
    return None if any(any(_read(file, place, BLOCK_BYTES)) for place in range(position, size, BLOCK_BYTES)) else size


def _plausible(name: bytes, claim: int, start: int, size: int) -> bool:
    """Whether this can be a chunk: a name in ASCII, and an end in the file or not far behind it."""
    return name.isascii() and name.decode("ascii").isprintable() and 0 <= claim <= size - start + TRAILING_BYTES


def _sphere(file: BinaryIO, begin: int, size: int, head: bytes) -> Part:
    fields = {key: int(value) for key, value in re.findall(rb"(?m)^(\w+) -i (\d+)", head)}
    claim = fields.get(b"sample_count", 0) * fields.get(b"channel_count", 1) * fields.get(b"sample_n_bytes", 0)
    ahead = re.match(rb"NIST_1A\s+(\d+)", head)
    if not ahead or not claim or b"embedded" in head:
        return Part(begin, size)
    start = begin + int(ahead[1])
    if _read(file, start + claim, 7) == b"NIST_1A":
        return Part(begin, start + claim)
    there = max(1, size - start)  # libsndfile reads all of it, whatever the header says
    return Part(begin, size, max(1.0, claim / there))


def _ogg(file: BinaryIO, begin: int, end: int) -> Part:
    """An Ogg stream: its last page must be whole; where none says that it is the last, the recorder was killed."""
    offset = max(begin, end - LAST_PAGES_BYTES)
    tail = _read(file, offset, end - offset)
    pages = [match.start() for match in re.finditer(rb"OggS\0", tail) if match.start() + 27 <= len(tail)]
    times = sorted({int.from_bytes(tail[page + 6 : page + 14], "little", signed=True) for page in pages})
    settled = max(0, times[-2]) if len(times) > 1 else 0
    if not pages:
        return Part(begin, end)
    last = tail[pages[-1] :]
    whole = 27 + last[26] + sum(last[27 : 27 + last[26]])
    broken = whole > len(last) or last[whole:].startswith((b"OggS", b"Ogg", b"Og", b"O"))
    return Part(begin, end, float("inf") if broken else 1.0, settled=settled, serial=last[14:18])


def _flac(file: BinaryIO, begin: int, start: int, end: int) -> Part:
    """A FLAC stream: its header's number of samples against that of its last frame."""
    info = _read(file, start + 8, 34)
    block, largest, rest = int.from_bytes(info[:2]), int.from_bytes(info[7:10]), int.from_bytes(info[10:18])
    frames, total = start + 42, rest & ((1 << 36) - 1)
    offset = max(frames, end - 2 * (largest or BLOCK_BYTES // 8) - TRAILING_BYTES)
    last = last_frame(_read(file, offset, max(0, end - offset)), block)
    if not last and not total:  # nothing says how long it is but all its frames
        last = last_frame(_read(file, frames, max(0, end - frames)), block)
    if not last or total == last:
        return Part(begin, end, 1.0 if total else float("inf"))
    patch = start + 18, (rest - total + last).to_bytes(8)
    return Part(begin, end, total / last if total else 1.0, patch)
