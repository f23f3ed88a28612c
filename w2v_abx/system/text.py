"""Text and names as people's programs write them: byte-order marks, UTF-16, and characters in one or several parts."""

import logging
import os
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from w2v_abx.errors import InputError

__all__ = ["leave_out", "nfc", "on_disk", "read_text"]

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
NAMED = 3  # rows left out that a warning names

log = logging.getLogger(__name__)


def nfc(text: str) -> str:
    """Compose its characters: é is one, whether it came as one or as e and an accent, as macOS names files."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def read_text(path: Path, setting: str = "", otherwise: str = "") -> str:
    """Read a text file in UTF-8 or UTF-16, with a byte-order mark or not: lines end in ``\\n``, characters are one.

    Args:
        otherwise: the encoding of a file that is in neither of them.

    Raises:
        InputError: the file is missing or holds no text, naming it, and ``setting`` if that names it.
    """
    named = f"{setting}={path}" if setting else str(path)
    try:
        data = path.read_bytes()
        try:
            text = data.decode(_encoding(data)).removeprefix("\ufeff")
        except UnicodeError:
            if not otherwise:
                raise
            text = data.decode(otherwise)
    except FileNotFoundError:
        raise InputError(f"{named} does not exist") from None
    except OSError as error:
        raise InputError(f"{named} cannot be read ({error.strerror or error})") from error
    except UnicodeError:
        raise InputError(f"{named} cannot be read as UTF-8 or UTF-16 text: save it as UTF-8") from None
    return nfc(text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text)


def _encoding(data: bytes) -> str:
    if data[:2] in UTF16_MARKS:
        return "utf-16"
    # Without a mark: tables and TextGrids begin with an ASCII character, of which UTF-16 has one byte zero.
    return "utf-16-be" if data[:1] == b"\0" else "utf-16-le" if data[1:2] == b"\0" else "utf-8-sig"


def on_disk(path: Path) -> Path:
    """Spell a path as the disk does, where its names there have other forms of the same characters.

    The path itself where there is no such file.
    """
    if str(path).isascii() or path.exists():
        return path
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        if not part.isascii() and not (found / part).exists() and found.is_dir():
            part = _names(found, found.stat().st_mtime_ns).get(nfc(part), part)  # noqa: PLW2901
        found /= part
    return found if found.exists() else path


@lru_cache(maxsize=256)
def _names(folder: Path, changed: int) -> dict[str, str]:
    """The names in a folder that are not ASCII, by their composed form; ``changed``: when, so that it is read anew."""
    return {nfc(name): name for name in os.listdir(folder) if not name.isascii()}  # noqa: PTH208


def leave_out(wrong: Sequence[str], rows: int, count: int | None = None) -> None:
    """Warn that some of the ``rows`` of a file cannot be used: ``wrong`` says where each stands, and why.

    Args:
        count: how many they are, where ``wrong`` names the first alone.

    Raises:
        InputError: they outnumber the others, so that it is no such file; the message names the first.
    """
    count = len(wrong) if count is None else count
    if not count:
        return
    counted = f"{count} of {rows} rows cannot be read"
    if 2 * count > rows:
        raise InputError(wrong[0] if rows == 1 else f"{wrong[0]} ({counted})")
    named = "; ".join(text.rstrip(".") for text in wrong[:NAMED])
    log.warning("%s and are left out: %s%s", counted, named, "; …" if count > NAMED else "")
