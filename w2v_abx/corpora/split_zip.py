"""Zip archives that were published in parts (``NAME.z01``, ``NAME.z02``, …, ``NAME.zip``)."""

import shutil
import struct
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write

__all__ = ["join"]

# Signatures of PKWARE's APPNOTE.TXT 6.3, sections 4.3.12, 4.3.14, 4.3.15 and 4.3.16; sizes without variable fields.
ENTRY, END_64, LOCATOR, END = b"PK\1\2", b"PK\6\6", b"PK\6\7", b"PK\5\6"
ENTRY_SIZE, LOCATOR_SIZE, END_SIZE = 46, 20, 22
FULL_16, FULL_32 = 0xFFFF, 0xFFFFFFFF  # the value stands in a 64-bit field elsewhere
ZIP64 = 1  # identifies the extra field of such values


def join(parts: Sequence[Path], path: Path) -> Path:
    """Write the parts of a split zip, in order, as one plain zip at ``path``, whole or not at all.

    The standard library reads no split zip: its directory gives an entry's place as the number of a part and the place
    in it, that of a plain one as the place in the whole. Raises `InputError` when the parts do not fit together.
    """
    sizes = [part.stat().st_size for part in parts]
    starts = [0, *accumulate(sizes[:-1])]

    def fill(partial: Path) -> None:
        with partial.open("wb") as whole:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, whole, 1 << 20)
        with partial.open("r+b") as whole:
            whole.seek(max(0, sum(sizes) - END_SIZE - FULL_16 - LOCATOR_SIZE))
            tail = whole.read()
            end = tail.rindex(END)
            disk, offset = struct.unpack_from("<H8xI", tail, end + 6)
            if tail[end - LOCATOR_SIZE : end].startswith(LOCATOR):
                disk, offset = struct.unpack_from("<IQ", tail, end - LOCATOR_SIZE + 4)
                whole.seek(starts[disk] + offset)
                record = whole.read(56)
                if not record.startswith(END_64):
                    raise ValueError("the 64-bit end of its directory is not where it should be")
                disk, offset = struct.unpack_from("<I24xQ", record, 20)
            begin = starts[disk] + offset
            whole.seek(begin)
            entries = _moved(whole.read(), starts)
            whole.seek(begin)
            whole.truncate()
            whole.write(b"".join(entries) + _end(begin, entries))

    try:
        write(path, fill)
    except (struct.error, IndexError, ValueError) as error:
        raise InputError(
            f"{parts[-1]} and the parts before it make no zip ({error}): delete them and fetch them again"
        ) from error
    return path


def _moved(directory: bytes, starts: Sequence[int]) -> list[bytes]:
    """The entries of a directory, their places given in the whole."""
    entries = []
    position = 0
    while directory[position : position + 4] == ENTRY:
        name, extra, comment = struct.unpack_from("<HHH", directory, position + 28)
        fields = position + ENTRY_SIZE + name
        stop = fields + extra + comment
        packed, unpacked = struct.unpack_from("<II", directory, position + 20)
        (disk,) = struct.unpack_from("<H", directory, position + 34)
        (offset,) = struct.unpack_from("<I", directory, position + 42)
        kept, long = _extra(directory[fields : fields + extra])
        # The 64-bit fields are those that are full elsewhere, in this order.
        unpacked = long.pop(0) if unpacked == FULL_32 else unpacked
        packed = long.pop(0) if packed == FULL_32 else packed
        offset = long.pop(0) if offset == FULL_32 else offset
        disk = long.pop(0) if disk == FULL_16 else disk
        values = [value for value in (unpacked, packed, starts[disk] + offset) if value >= FULL_32]
        if values:
            kept += struct.pack(f"<HH{len(values)}Q", ZIP64, 8 * len(values), *values)
        head = bytearray(directory[position:fields])
        struct.pack_into("<II", head, 20, min(packed, FULL_32), min(unpacked, FULL_32))
        struct.pack_into("<H", head, 30, len(kept))
        struct.pack_into("<H", head, 34, 0)
        struct.pack_into("<I", head, 42, min(starts[disk] + offset, FULL_32))
        entries.append(bytes(head) + kept + directory[fields + extra : stop])
        position = stop
    if not entries:
        raise ValueError("its directory is not where it should be")
    return entries


def _extra(fields: bytes) -> tuple[bytes, list[int]]:
    """The extra fields but for the 64-bit one, and the values of that (the last may be a part's number of 32 bits)."""
    kept, long, position = b"", [], 0
    while position + 4 <= len(fields):
        kind, size = struct.unpack_from("<HH", fields, position)
        content = fields[position + 4 : position + 4 + size]
        if kind == ZIP64:
            long = [int.from_bytes(content[i : i + 8], "little") for i in range(0, size, 8)]
        else:
            kept += fields[position : position + 4 + size]
        position += 4 + size
    return kept, long


def _end(begin: int, entries: Sequence[bytes]) -> bytes:
    """What follows the entries of a directory that begins at ``begin``."""
    size, count = sum(map(len, entries)), len(entries)
    end = b""
    if begin >= FULL_32 or count >= FULL_16:
        end = struct.pack("<4sQHHIIQQQQ", END_64, 44, 45, 45, 0, 0, count, count, size, begin)
        end += struct.pack("<4sIQI", LOCATOR, 0, begin + size, 1)
    short = min(count, FULL_16)
    return end + struct.pack("<4sHHHHIIH", END, 0, 0, short, short, size, min(begin, FULL_32), 0)
