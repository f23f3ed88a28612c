"""Where a published corpus lies on disk, and how it gets there."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from rich.console import Console

from w2v_abx.errors import InputError
from w2v_abx.system import downloads
from w2v_abx.system.archives import unpack
from w2v_abx.system.locks import alone

__all__ = ["LOCK", "Archive", "choose", "fetch", "fetch_files", "fetching", "find_tree", "locate"]

LOCK = ".fetching.lock"


@dataclass(frozen=True)
class Archive:
    """A published file: its address, and its checksum where one is published."""

    url: str
    sha256: str | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name


def locate(
    root: Path,
    holds: str,
    below: Sequence[str],
    archives: Sequence[Archive],
    *,
    download: bool,
    layout: str,
    setting: str = "corpus.root",
) -> Path:
    """``root``, or the first folder ``below`` it (glob patterns), that holds the file or folder ``holds``.

    Where there is none and ``download`` is set, ``archives`` are fetched into ``root``. Else `InputError` says, naming
    ``setting``, where to get them and what the tree looks like (``layout``).
    """

    def lacking() -> bool:
        # An archive that still lies there was not unpacked to its end, whatever else does.
        return find_tree(root, holds, below) is None or any((root / archive.name).exists() for archive in archives)

    if download and (lacking() or (root / LOCK).exists()):
        with fetching(root):
            if lacking():  # another process may just have done it
                fetch(archives, root)
    tree = find_tree(root, holds, below)
    if tree is None:
        urls = " and ".join(archive.url for archive in archives)
        raise InputError(
            f"{setting}={root} holds no {holds}: give corpus.download=true, or unpack {urls} there ({layout})"
        )
    return tree


def find_tree(root: Path, holds: str, below: Sequence[str]) -> Path | None:
    """``root``, or the first folder ``below`` it (glob patterns), that holds the file or folder ``holds``."""
    candidates = [root, *(folder for pattern in below for folder in sorted(root.glob(pattern)))]
    return next((folder for folder in candidates if (folder / holds).exists()), None)


def fetching(root: Path) -> AbstractContextManager[None]:
    """Hold a corpus's folder while looking what it lacks, downloading, unpacking and deleting: others wait."""
    return alone(root / LOCK)


def fetch(archives: Sequence[Archive], folder: Path) -> None:
    """Download archives into ``folder`` and unpack them there; each is deleted once it is unpacked.

    Call it while `fetching` holds the folder: two at a time would delete what the other unpacks.
    """
    for archive in archives:
        file = downloads.download(archive.url, folder / archive.name, sha256=archive.sha256, md5=archive.md5)
        unpack(file, folder)
        file.unlink(missing_ok=True)


def fetch_files(files: Mapping[str, Archive], folder: Path) -> None:
    """Download files, by their name in ``folder``; those that are there already are not fetched again.

    Raises `InputError` for a name with a path, as `w2v_abx.system.downloads.download` does, and for none at all.
    """
    if not files or any(PurePosixPath(name).name != name for name in files):
        raise InputError(f"{folder} cannot be filled: there are no files to fetch, or one is named as a path")
    console = Console(stderr=True)
    for number, (name, file) in enumerate(sorted(files.items()), 1):
        downloads.download(file.url, folder / name, sha256=file.sha256, md5=file.md5)
        if number * 10 // len(files) > (number - 1) * 10 // len(files):
            console.print(f"{folder.name}: {number} of {len(files)} files", highlight=False)


def choose(setting: str, wanted: Sequence[str] | None, valid: Sequence[str]) -> list[str]:
    """``wanted`` (``None``: all) in the order of ``valid``; `InputError` names the setting for any other."""
    if isinstance(wanted, str):
        raise InputError(f"{setting}={wanted!r} must be a list, such as [{wanted}]")
    if wanted is None:
        return list(valid)
    if unknown := [value for value in wanted if value not in valid]:
        raise InputError(f"{setting}: {unknown[0]!r} is unknown: choose from {', '.join(valid)}")
    if not wanted:
        raise InputError(f"{setting} is empty: choose from {', '.join(valid)}, or null for all")
    return [value for value in valid if value in wanted]
