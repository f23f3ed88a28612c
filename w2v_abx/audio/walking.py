"""Which files lie in a folder, and which of them are audio."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from w2v_abx.audio.loading import info
from w2v_abx.errors import InputError

__all__ = ["AUDIO_ENDINGS", "BY_FFMPEG", "counted", "recordings", "walk"]

# What is audio without a look into it, and what may be left out of a recording's name.
# fmt: off
BY_LIBSNDFILE = (
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2",
    ".mpga", ".aif", ".aiff", ".aifc", ".sph", ".nist", ".au", ".snd", ".caf",
)
BY_FFMPEG = (
    ".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".ac3", ".wma", ".asf", ".webm", ".weba",
    ".mka", ".mkv", ".wv", ".ape", ".tta", ".amr", ".awb", ".avi", ".flv", ".spx", ".voc",
)
# fmt: on
AUDIO_ENDINGS = BY_LIBSNDFILE + BY_FFMPEG
MAX_TRIED = 20  # other endings that are tried, the most frequent first: each may take 0.1 s
SHOWN_ENDINGS = 10


def recordings(folder: Path, setting: str = "corpus.root") -> tuple[list[Path], dict[str, int]]:
    """The audio files of `walk`, and how many others there are by ending ("" for none).

    Audio is what decodes: of an ending that is not known to be audio, the first two files are tried.
    """
    found = list(walk(folder, setting))
    count = Counter(path.suffix.lower() for path in found)
    others = [ending for ending, _ in count.most_common() if ending not in AUDIO_ENDINGS]
    for ending in others[:MAX_TRIED]:
        tried = [path for path in found if path.suffix.lower() == ending][:2]
        if all(_decodes(path) for path in tried):
            others.remove(ending)
    return [path for path in found if path.suffix.lower() not in others], {ending: count[ending] for ending in others}


def counted(passed_over: Mapping[str, int]) -> str:
    """How many files are not audio, in words, such as "3 files are not audio (2 .txt, 1 without ending)"."""
    most = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} {ending or 'without ending'}" for ending, count in most[:SHOWN_ENDINGS]]
    rest = [f"{sum(count for _, count in most[SHOWN_ENDINGS:])} others"] if len(most) > SHOWN_ENDINGS else []
    return f"{sum(passed_over.values())} files are not audio ({', '.join([*shown, *rest])})"


def _decodes(path: Path) -> bool:
    try:
        return path.is_file() and info(path)[0] > 0
    except InputError:
        return False


def walk(folder: Path, setting: str = "corpus.root") -> Iterator[Path]:
    """What lies in a folder and below, sorted, hidden entries left out: how every folder is searched here.

    Linked folders are followed, each folder once, so that loops of links end. A folder that is named like audio is
    given as if it were a file: reading it fails, and so it is counted. Raises `InputError`, naming ``setting``, for a
    folder that cannot be listed.
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
