"""Where a published corpus lies on disk, and how it gets there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from rich.progress import MofNCompleteColumn

from w2v_abx.corpora.split_zip import join
from w2v_abx.errors import InputError
from w2v_abx.system import downloads
from w2v_abx.system.archives import Limits, unpack
from w2v_abx.system.checks import fail
from w2v_abx.system.locks import alone
from w2v_abx.system.progress import WorkProgress

__all__ = ["LOCK", "Archive", "fetch", "fetch_files", "fetching", "find_tree", "locate"]

LOCK = ".fetching.lock"
FEW = 2  # addresses that a message lists; of more it names the first


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        url: its address.
        sha256, md5: its checksum, where one is published.
        makes: the file or folder, relative to the corpus's, that is there once it is unpacked.
        parts: instead of ``url``: the parts of one zip that was published so, in order.
    """

    url: str = ""
    sha256: str | None = None
    md5: str | None = None
    makes: str | None = None
    parts: tuple["Archive", ...] = ()

    @classmethod
    def parse(cls, setting: str, given: Any) -> "Archive":
        """Read a setting; `InputError` names what does not fit."""
        keys = set(given) if isinstance(given, Mapping) else set()
        if keys - set(cls.__dataclass_fields__) or not keys & {"url", "parts"}:
            raise fail(setting, given, "url or parts, with sha256, md5 and makes where they are known")
        parts = tuple(cls.parse(f"{setting}.parts", part) for part in given.get("parts") or ())
        return cls(**{**given, "parts": parts})

    @property
    def name(self) -> str:
        """The name of the file to unpack."""
        if self.parts:
            return f"{PurePosixPath(self.parts[-1].name).stem}.joined.zip"
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def urls(self) -> list[str]:
        """The addresses of its files."""
        return [part.url for part in self.parts] or [self.url]


def locate(
    root: Path,
    holds: str,
    below: Sequence[str],
    archives: Sequence[Archive],
    *,
    download: bool,
    layout: str,
    limits: Mapping[str, Any],
    setting: str = "corpus.root",
) -> Path:
    """Find the folder of a corpus: ``root``, or one ``below`` it (glob patterns), that ``holds`` a file or folder.

    Where ``download`` is set, ``archives`` whose content is absent are fetched first, within ``limits``. Else
    `InputError` says, naming ``setting``, where to get them and what the tree looks like (``layout``).
    """

    def lacking() -> Iterator[tuple[Archive, Path]]:
        """The archives to fetch, and the folder to unpack each in."""
        tree = find_tree(root, holds, below, setting)
        for archive in archives:
            place = (tree or root) if archive.makes else root
            whole = (place / archive.makes).exists() if archive.makes else tree is not None
            # An archive that still lies there was not unpacked to its end, whatever else was.
            if not whole or (place / archive.name).exists():
                yield archive, place

    if download and (any(lacking()) or (root / LOCK).exists()):
        with fetching(root):
            for archive, place in list(lacking()):  # another process may just have fetched some
                fetch([archive], place, limits)
    tree = find_tree(root, holds, below, setting)
    if tree is None:
        urls = [url for archive in archives for url in archive.urls]
        unpack_them = " and ".join(urls) if len(urls) <= FEW else f"{urls[0]} and the {len(urls) - 1} files beside it"
        how = f"give corpus.download=true, or unpack {unpack_them} there ({layout})" if urls else layout
        raise InputError(f"{setting}={root} holds no {holds}: {how}")
    return tree


def find_tree(root: Path, holds: str, below: Sequence[str], setting: str = "corpus.root") -> Path | None:
    """``root``, or a folder ``below`` it that ``holds`` a file or folder, by the first of the glob patterns that fits.

    Raises `InputError` where a pattern fits several.
    """
    for pattern in ("", *below):
        found = [folder for folder in (sorted(root.glob(pattern)) if pattern else [root]) if (folder / holds).exists()]
        if len(found) > 1:
            names = ", ".join(folder.relative_to(root).as_posix() for folder in found)
            raise InputError(f"{setting}={root} holds several of these corpora ({names}): give the folder of one")
        if found:
            return found[0]
    return None


def fetching(root: Path) -> AbstractContextManager[None]:
    """Hold a corpus's folder while looking what it lacks, downloading, unpacking and deleting: others wait."""
    return alone(root / LOCK)


def fetch(archives: Sequence[Archive], folder: Path, limits: Mapping[str, Any]) -> None:
    """Download archives into ``folder`` and unpack them there; each is deleted once it is unpacked.

    ``limits``: those of `Limits`, where they are other than the usual.

    Call it while `fetching` holds the folder: two at a time would delete what the other unpacks.
    """
    for archive in archives:
        file = folder / archive.name
        if archive.parts:
            _fetch_parts(archive.parts, file)
        else:
            downloads.download(archive.url, file, sha256=archive.sha256, md5=archive.md5)
        unpack(file, folder, Limits(**limits))
        file.unlink(missing_ok=True)


def _fetch_parts(parts: Sequence[Archive], file: Path) -> None:
    """Download the parts of a zip beside ``file`` and join them to it; then they are deleted."""
    paths = [file.with_name(part.name) for part in parts]
    if not file.exists():
        for part, path in zip(parts, paths, strict=True):
            downloads.download(part.url, path, sha256=part.sha256, md5=part.md5)
        join(paths, file)
    for path in paths:
        path.unlink(missing_ok=True)


def fetch_files(files: Mapping[str, Archive], folder: Path) -> None:
    """Download files, by their name in ``folder``; those that are there already are not fetched again.

    Raises `InputError` for a name with a path, as `w2v_abx.system.downloads.download` does, and for none at all.
    """
    if not files or any(PurePosixPath(name).name != name for name in files):
        raise InputError(f"{folder} cannot be filled: there are no files to fetch, or one is named as a path")
    with WorkProgress(folder.name, MofNCompleteColumn(), total=len(files)) as progress:
        for number, (name, file) in enumerate(sorted(files.items()), 1):
            downloads.download(file.url, folder / name, sha256=file.sha256, md5=file.md5, shown=False)
            progress.update(number, f": {number} of {len(files)} files")
