"""Unpack an archive so that nothing it holds can land outside its folder."""

import fcntl
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from w2v_abx.errors import InputError

__all__ = ["unpack"]

# RuntimeError, NotImplementedError: what zipfile raises for a password and for a method that it lacks; OverflowError:
# a time that is none.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
)
UNFINISHED = ".unpacking-"  # and some letters: a folder in which an archive is unpacked


@dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # file, folder, link (to another member), or what it is instead
    time: float
    open: Callable[[], IO[bytes]]
    target: str = ""  # of a link, from the archive's top


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain or compressed) or a zip into ``folder``.

    Everything is unpacked in a hidden folder inside ``folder`` first (which may be a disk of its own), so that an
    archive which is refused or breaks off leaves nothing behind; what a killed process left there is removed. What
    ``folder`` holds stays, and files of the same name are replaced. Links become copies of the member that they point
    to; owners and modes are not kept, times are.

    Raises `InputError` that names the archive and the member for an absolute path, ``..``, a link to anything that is
    no file of the archive, a device; and for an archive that is missing, damaged or does not fit on the disk.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise InputError(f"the archive {archive} does not exist")
    try:
        with _alone(folder):
            for left in folder.glob(f"{UNFINISHED}*"):
                shutil.rmtree(left)
            fresh = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
            try:
                _extract(archive, fresh)
                _merge(fresh, folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except DAMAGED as error:
        raise InputError(f"{archive} is damaged or no archive ({error}): delete it and fetch it again") from error
    except OSError as error:
        raise InputError(f"{archive} cannot be unpacked into {folder} ({error.strerror or error})") from error


def _extract(archive: Path, folder: Path) -> None:
    links = []
    for member in _members(archive):
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
            raise InputError(f"{archive}: refused the member {member.name!r}, whose path leads out of the folder")
        path = folder / name
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
        elif member.kind == "link":
            links.append((member, path))
        elif member.kind == "file":
            path.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            os.utime(path, (member.time, member.time))
        else:
            raise InputError(f"{archive}: refused the member {member.name!r}, which is a {member.kind}, not a file")
    # Nothing on the disk is ever a link, and so none can be followed; a link to a link takes another round.
    while links:
        ready = [(member, path) for member, path in links if _inside(folder, member.target).is_file()]
        if not ready:
            raise InputError(
                f"{archive}: refused the member {links[0][0].name!r}, a link to {links[0][0].target!r}, "
                "which is no file of the archive"
            )
        for member, path in ready:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_inside(folder, member.target), path)
        links = [link for link in links if link not in ready]


def _inside(folder: Path, target: str) -> Path:
    """Where a link leads; the folder itself, which is no file, for one that leads out of it."""
    name = PurePosixPath(os.path.normpath(target))
    return folder if name.is_absolute() or ".." in name.parts else folder / name


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                yield _zipped(zipped, entry)
        return
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            yield _tarred(tar, member)


def _tarred(tar: tarfile.TarFile, member: tarfile.TarInfo) -> _Member:
    def opened() -> IO[bytes]:
        file = tar.extractfile(member)
        assert file is not None  # asked of plain files only
        return file

    kind, target = "device or pipe", ""
    if member.isfile():
        kind = "file"
    elif member.isdir():
        kind = "folder"
    elif member.islnk():
        kind, target = "link", member.linkname
    elif member.issym():
        kind, target = "link", str(PurePosixPath(member.name).parent / member.linkname)
    return _Member(member.name, kind, member.mtime, opened, target)


def _zipped(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo) -> _Member:
    kind, target = "folder" if entry.is_dir() else "file", ""
    if stat.S_ISLNK(entry.external_attr >> 16):
        kind = "link"
        target = str(PurePosixPath(entry.filename).parent / zipped.read(entry).decode(errors="replace"))
    try:
        when = time.mktime((*entry.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        when = 0.0
    # orig_filename: before zipfile turned what it does not like into something else
    return _Member(entry.orig_filename, kind, when, lambda: zipped.open(entry), target)


def _merge(source: Path, target: Path) -> None:
    """Move a folder's content; what is not there yet goes in one rename."""
    # Files first: a folder that a reader looks for comes last, and whole.
    for entry in sorted(source.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(entry, place)
        else:
            entry.replace(place)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, against others that unpack there; it goes again where nothing came of it."""
    while True:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # whoever made it took it away again
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not (folder.exists() and os.path.samestat(folder.stat(), os.fstat(handle))):
                continue
            try:
                yield
            except BaseException:
                if made:
                    with suppress(OSError):  # another's files lie there by now
                        folder.rmdir()
                raise
            return
        finally:
            os.close(handle)
