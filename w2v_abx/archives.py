"""Unpack an archive so that nothing it holds can land outside its folder."""

import fcntl
import os
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from w2v_abx.errors import InputError

__all__ = ["unpack"]

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
# RuntimeError, NotImplementedError: what zipfile raises for a password and for a method that it lacks


@dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # file, folder, link (to another member), or what it is instead
    time: float
    open: Callable[[], IO[bytes]]
    target: str = ""  # of a link, from the archive's top


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain or compressed) or a zip into ``folder``.

    Everything is unpacked beside ``folder`` first, so that an archive which is refused or breaks off leaves nothing
    behind. Where ``folder`` exists, what it holds stays, and files of the same name are replaced. Links become copies
    of the member that they point to; owners and modes are not kept, times are.

    Raises `InputError` that names the archive and the member for an absolute path, ``..``, a link to anything that is
    no file of the archive, a device; and for an archive that is missing, damaged or does not fit on the disk.
    """
    archive, folder = Path(archive), Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent):
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            fresh.chmod(0o777 & ~_umask())  # mkdtemp keeps others out
            _extract(archive, fresh)
            _merge(fresh, folder)
        except FileNotFoundError:
            raise InputError(f"the archive {archive} does not exist") from None
        except DAMAGED as error:
            raise InputError(f"{archive} is damaged or no archive ({error}): delete it and fetch it again") from error
        except OSError as error:
            raise InputError(f"{archive} cannot be unpacked into {folder} ({error.strerror or error})") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


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
    if not target.exists():
        source.rename(target)
        return
    # Files first: a folder that a reader looks for comes last, and whole.
    for entry in sorted(source.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(entry, place)
        else:
            entry.replace(place)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes that unpack there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
