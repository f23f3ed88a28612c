"""Unpack an archive so that nothing it holds can land outside its folder, or fill the disk."""

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from w2v_abx.errors import InputError, NotWritten
from w2v_abx.system.atomic import scratch_folder
from w2v_abx.system.checks import number, whole
from w2v_abx.system.locks import alone

__all__ = ["Limits", "unpack"]

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
LOCK = ".unpacking.lock"

SMALL_BYTES = 100_000_000  # that any archive may become: tables of text are a fiftieth of their size when packed
MAX_HEADER_BYTES = 1 << 20  # of a tar's long names and the like, which are read at once
HEADERS = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}


@dataclass(frozen=True)
class Limits:
    """The most that an archive may hold; what is free on the disk is a limit, too.

    Args:
        gigabytes: of all files (1e9 bytes), copies made for links included.
        ratio: of these to the archive's own size, where they are more than 100 MB.
        members: files, folders and links.
        links: of these.
    """

    gigabytes: float = 1000.0
    ratio: float = 100.0
    members: int = 5_000_000
    links: int = 10_000

    def __post_init__(self) -> None:
        number("archives.gigabytes", self.gigabytes, above=0)
        number("archives.ratio", self.ratio, low=1)
        whole("archives.members", self.members, 1)
        whole("archives.links", self.links, 0)


def unpack(archive: Path, folder: Path, limits: Limits = Limits()) -> None:
    """Unpack a tar (plain or compressed) or a zip into ``folder``.

    Everything is unpacked in a hidden folder inside ``folder`` first (which may be a disk of its own), so that an
    archive which is refused or breaks off leaves nothing behind; what a killed process left there is removed. What
    ``folder`` holds stays, and files of the same name are replaced. Links become copies of the member that they point
    to; owners are dropped, times stay.

    Raises `InputError` that names the archive and the member for an absolute path, ``..``, a link to anything that is
    no file of the archive, a device, and what is more than the ``limits``; and for an archive that is missing or
    damaged. Raises `NotWritten` for one that does not fit on the disk.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise InputError(f"the archive {archive} does not exist")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / LOCK), scratch_folder(folder, "archive") as fresh:
            _Unpacking(archive, fresh, limits).run()
            _merge(fresh, folder)
    except DAMAGED as error:
        raise InputError(f"{archive} is damaged or no archive ({error}): delete it and fetch it again") from error
    except OSError as error:
        raise NotWritten(f"{archive} cannot be unpacked into {folder} ({error.strerror or error})") from error
    finally:
        if made:
            with suppress(OSError):  # something lies there: what was unpacked, or another's files
                folder.rmdir()


class _Member(tarfile.TarInfo):
    """A header of a tar. What is read at once because of one is of no more than some size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in HEADERS and member.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header says {member.size} bytes")
        return member


class _Unpacking:
    """One archive on its way into an empty folder."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.archive, self.folder, self.limits = archive, folder, limits
        self.own, self.free = archive.stat().st_size, shutil.disk_usage(folder).free
        self.members = self.bytes = 0
        self.links: dict[PurePosixPath, PurePosixPath] = {}  # none is made: each becomes a copy of what it leads to

    def run(self) -> None:
        if zipfile.is_zipfile(self.archive):
            with zipfile.ZipFile(self.archive) as zipped:
                self._unzip(zipped)
        else:
            with tarfile.open(self.archive, "r:*", tarinfo=_Member) as tar:
                self._untar(tar)
        for name in self.links:
            self._copy(name)

    def _untar(self, tar: tarfile.TarFile) -> None:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # each takes a kilobyte, and is not needed again
            name = self._check(member.name, member.size if member.isreg() else min(0, member.size))
            if member.issym():
                self._link(name, name.parent / member.linkname)
            elif member.islnk():
                self._link(name, PurePosixPath(member.linkname))
            else:
                self.links.pop(name, None)
                try:
                    tar.extract(member, self.folder, filter="data")
                except tarfile.FilterError as error:
                    raise self._refuse(member.name, str(error)) from error
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a header that is none for the end
            raise tarfile.ReadError("a header amidst it is none")

    def _unzip(self, zipped: zipfile.ZipFile) -> None:
        for entry in zipped.infolist():
            # orig_filename: before zipfile turned what it does not like into something else
            name = self._check(entry.orig_filename, entry.file_size)
            if stat.S_ISLNK(entry.external_attr >> 16):
                if entry.file_size > MAX_HEADER_BYTES:
                    raise self._refuse(str(name), "a link whose target is no path")
                self._link(name, name.parent / zipped.read(entry).decode(errors="replace"))
                continue
            self.links.pop(name, None)
            path = Path(zipped.extract(entry, self.folder))
            with suppress(ValueError, OverflowError):  # a time that is none
                moment = time.mktime((*entry.date_time, 0, 0, -1))
                os.utime(path, (moment, moment))

    def _link(self, name: PurePosixPath, target: PurePosixPath) -> None:
        self.links[name] = target
        if len(self.links) > self.limits.links:
            raise self._refuse(str(name), f"one more than the {self.limits.links} links of archives.links")

    def _copy(self, name: PurePosixPath) -> None:
        """Put a copy of what a link leads to in its place."""
        chain = [name]
        while (target := PurePosixPath(os.path.normpath(self.links[chain[-1]]))) in self.links and target != name:
            chain.append(target)
            if len(chain) > len(self.links):
                break
        source, path = self.folder / target, self.folder / name
        leads_out = target.is_absolute() or ".." in target.parts
        if leads_out or target in self.links or not source.is_file() or path.is_dir():
            raise self._refuse(str(name), f"a link to {str(self.links[name])!r}, which is no file of the archive")
        self.links.update(dict.fromkeys(chain, target))  # so that a chain is followed once
        self._add(str(name), source.stat().st_size)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # an earlier member of that name
        shutil.copy2(source, path)

    def _check(self, member: str, size: int) -> PurePosixPath:
        """Refuse a member of so many bytes whose path leads out, or which is one too many; return its path."""
        name = PurePosixPath(member)
        if name.is_absolute() or ".." in name.parts or "\\" in member or "\0" in member:
            raise self._refuse(member, "whose path leads out of the folder")
        if size < 0:
            raise self._refuse(member, "of less than no bytes")
        self.members += 1
        if self.members > self.limits.members:
            raise self._refuse(member, f"one more than the {self.limits.members} of archives.members")
        self._add(member, size)
        return name

    def _add(self, member: str, size: int) -> None:
        """Refuse what is too much."""
        self.bytes += size
        most = min(1e9 * self.limits.gigabytes, max(SMALL_BYTES, self.limits.ratio * self.own))
        if self.bytes > most:
            raise self._refuse(
                member,
                f"with which {self.own} bytes would become {self.bytes}, more than the {most:.0f} that "
                f"archives.gigabytes={self.limits.gigabytes:g} and archives.ratio={self.limits.ratio:g} allow",
            )
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
