"""Which files lie in a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from w2v_abx.errors import InputError

__all__ = ["AUDIO_ENDINGS", "walk"]

AUDIO_ENDINGS = (
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".m4a",
    ".aac",
    ".wma",
    ".webm",
    ".sph",
)


def walk(folder: Path, setting: str = "corpus.root") -> Iterator[Path]:
    """What lies in a folder and below, sorted, hidden entries left out, linked folders followed once.

    A folder that is named like audio is given as if it were a file: reading it fails, and so it is counted. Raises
    `InputError`, naming ``setting``, for a folder that cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}): check {setting} and its permissions")

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        like_audio = [name for name in folders if Path(name).suffix.lower() in AUDIO_ENDINGS]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in like_audio)
        yield from (Path(parent) / name for name in sorted(files + like_audio) if not name.startswith("."))
