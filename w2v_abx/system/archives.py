"""Unpack an archive so that nothing it holds can land outside its folder, or fill the disk."""

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
from contextlib import suppress
from pathlib import Path, PurePosixPath

from w2v_abx.errors import InputError
from w2v_abx.system.locks import alone

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
LOCK = ".unpacking.lock"

MAX_MEMBERS = 20_000_000  # files, folders and links
MAX_BYTES = 1 << 43  # of all files, copies made for links included; what is free on the disk is a limit, too
MAX_RATIO = 200.0  # of these to the archive's own size, once they are more than
SMALL_BYTES = 1 << 30


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain or compressed) or a zip into ``folder``.

    Everything is unpacked in a hidden folder inside ``folder`` first (which may be a disk of its own), so that an
    archive which is refused or breaks off leaves nothing behind; what a killed process left there is removed. What
    ``folder`` holds stays, and files of the same name are replaced. Links become copies of the member that they point
    to; owners are dropped, times stay.

    Raises `InputError` that names the archive and the member for an absolute path, ``..``, a link to anything that is
    no file of the archive, a device, and what is more than an archive may hold; and for an archive that is missing,
    damaged or does not fit on the disk.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise InputError(f"the archive {archive} does not exist")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / LOCK):
            for left in folder.glob(f"{UNFINISHED}*"):
                shutil.rmtree(left)
            fresh = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
            try:
                _Unpacking(archive, fresh).run()
                _merge(fresh, folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except DAMAGED as error:
        raise InputError(f"{archive} is damaged or no archive ({error}): delete it and fetch it again") from error
    except OSError as error:
        raise InputError(f"{archive} cannot be unpacked into {folder} ({error.strerror or error})") from error
    finally:
        if made:
            with suppress(OSError):  # something lies there: what was unpacked, or another's files
                folder.rmdir()


class _Unpacking:
    """One archive on its way into an empty folder."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive, self.folder = archive, folder
        self.free = shutil.disk_usage(folder).free
        self.members = self.bytes = 0

    def run(self) -> None:
        if zipfile.is_zipfile(self.archive):
            with zipfile.ZipFile(self.archive) as zipped:
                self._unzip(zipped)
        else:
            with tarfile.open(self.archive, "r:*") as tar:
                tar.extractall(self.folder, filter=self._filter)
        self._copy_links()

    def _filter(self, member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        self._check(member.name, member.size if member.isreg() else 0)
        try:
            return tarfile.data_filter(member, path)
        except tarfile.FilterError as error:
            raise self._refuse(member.name, str(error)) from error

    def _unzip(self, zipped: zipfile.ZipFile) -> None:
        links = []
        for entry in zipped.infolist():
            # orig_filename: before zipfile turned what it does not like into something else
            self._check(entry.orig_filename, entry.file_size)
            if stat.S_ISLNK(entry.external_attr >> 16):
                links.append(entry)
                continue
            path = Path(zipped.extract(entry, self.folder))
            with suppress(ValueError, OverflowError):  # a time that is none
                moment = time.mktime((*entry.date_time, 0, 0, -1))
                os.utime(path, (moment, moment))
        for entry in links:  # last, so that nothing is written through one
            path = self.folder / entry.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(zipped.read(entry).decode(errors="replace"))

    def _copy_links(self) -> None:
        """Put a copy in the place of each symbolic link."""
        top = self.folder.resolve()
        for path in [path for path in self.folder.rglob("*") if path.is_symlink()]:
            target = Path(os.path.realpath(path))
            name = str(path.relative_to(self.folder))
            if not (target.is_relative_to(top) and target.is_file()):
                raise self._refuse(name, f"a link to {str(path.readlink())!r}, which is no file of the archive")
            self._check(name, target.stat().st_size)
            path.unlink()
            shutil.copy2(target, path)

    def _check(self, member: str, size: int) -> None:
        """Refuse a member of so many bytes whose path leads out, or which is too much."""
        name = PurePosixPath(member)
        if name.is_absolute() or ".." in name.parts or "\\" in member or "\0" in member:
            raise self._refuse(member, "whose path leads out of the folder")
        self.members += 1
        self.bytes += size
        own = self.archive.stat().st_size
        if self.members > MAX_MEMBERS:
            raise self._refuse(member, f"one more than the {MAX_MEMBERS} that an archive may have")
        if self.bytes > min(MAX_BYTES, max(SMALL_BYTES, MAX_RATIO * own)):
            raise self._refuse(member, f"with which {own} bytes would become {self.bytes}")
        if self.bytes > self.free:
            raise self._refuse(member, f"for which the disk has no room: {self.free} bytes are free")

    def _refuse(self, member: str, why: str) -> InputError:
        return InputError(f"{self.archive}: refused the member {member!r}, {why}")


def _merge(source: Path, target: Path) -> None:
    """Move a folder's content; what is not there yet goes in one rename."""
    # Files first: a folder that a reader looks for comes last, and whole.
    for entry in sorted(source.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(entry, place)
        else:
            entry.replace(place)
