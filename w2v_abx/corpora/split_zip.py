"""Zip archives that were published in parts (``NAME.z01``, ``NAME.z02``, …, ``NAME.zip``)."""

import shutil
import struct
import zipfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write

__all__ = ["join"]

# Signatures of PKWARE's APPNOTE.TXT 6.3, sections 4.3.15 and 4.3.16; sizes without variable fields, in bytes.
LOCATOR, END = b"PK\6\7", b"PK\5\6"
LOCATOR_SIZE, END_SIZE, LONGEST_COMMENT = 20, 22, 0xFFFF


def join(parts: Sequence[Path], path: Path) -> Path:
    """Write the parts of a split zip, in order, as one plain zip at ``path``, whole or not at all.

    A split zip's directory gives a place as the number of a part and the place in it, that of a plain one as the place
    in the whole. Raises `InputError` when the parts do not fit together.
    """
    sizes = [part.stat().st_size for part in parts]
    starts = [0, *accumulate(sizes[:-1])]

    def fill(partial: Path) -> None:
        with partial.open("wb") as whole:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, whole, 1 << 20)
        disk, place = _directory(partial, starts)
        with zipfile.ZipFile(partial, "a") as archive:
            if archive.start_dir != starts[disk] + place:
                raise ValueError("its directory is not where it should be")
            for entry in archive.infolist():  # places count as from the beginning of the directory's part
                entry.header_offset += starts[entry.volume] - starts[disk]
            archive.comment = archive.comment  # so that the directory is written anew

    try:
        write(path, fill)
    except (struct.error, IndexError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{parts[-1]} and the parts before it make no zip ({error}): delete them and fetch them again"
        ) from error
    return path


def _directory(path: Path, starts: Sequence[int]) -> tuple[int, int]:
    """The part in which the directory of joined parts begins, and the place there.

    A locator of 64-bit fields is written anew, for one part: `zipfile` refuses those of several.
    """
    with path.open("r+b") as whole:
        begin = whole.seek(max(0, path.stat().st_size - END_SIZE - LONGEST_COMMENT - LOCATOR_SIZE))
        tail = whole.read()
        end = tail.rindex(END)
        disk, place = struct.unpack_from("<H8xI", tail, end + 6)
        locator = end - LOCATOR_SIZE
        if tail[max(0, locator) : end].startswith(LOCATOR):
            part, offset = struct.unpack_from("<IQ", tail, locator + 4)
            whole.seek(starts[part] + offset)
            disk, place = struct.unpack_from("<I24xQ", whole.read(56), 20)
            whole.seek(begin + locator)
            whole.write(struct.pack("<4sIQI", LOCATOR, 0, starts[part] + offset, 1))
    return disk, place
