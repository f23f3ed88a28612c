"""Store shards from elsewhere on this machine: whole, checked when they are fetched, no more than there is room for."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from w2v_abx.errors import InputError
from w2v_abx.shards.manifest import Shard
from w2v_abx.shards.places import FileReader, Place
from w2v_abx.system.locks import alone

__all__ = ["Cache"]

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Cache:
    """A folder of shards under their SHA-256, shared by any number of processes.

    A shard's SHA-256 is checked when it is fetched; of one that is here already, only the size is looked at.

    The least recently opened go when there are more than ``gigabytes`` (1e9 bytes), but never one that a process reads:
    where all are being read, there are more for a while.
    """

    folder: Path
    gigabytes: float

    def open(self, place: Place, shard: Shard) -> FileReader:
        """Open a shard, fetched unless it is here.

        Raises `InputError` where it cannot be fetched or stored, or is not what the manifest says.
        """
        path = self.folder / f"{shard.sha256}.tar"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (reader := self._stored(path, shard)) is not None:
                return reader
            with alone(self.folder / f".{shard.sha256}.lock"):
                return self._stored(path, shard) or self._fetch(place, shard, path)
        except OSError as error:
            raise InputError(
                f"data.cache={self.folder} cannot hold {place.name(shard.name)} ({error.strerror or error}): "
                f"make room, or set data.cache_gigabytes lower"
            ) from error

    def _stored(self, path: Path, shard: Shard) -> FileReader | None:
        try:
            if path.stat().st_size != shard.bytes:
                return None
            reader = FileReader(path)
        except (FileNotFoundError, InputError):  # gone, maybe just now
            return None
        _share(reader)
        if os.fstat(reader.fileno()).st_nlink == 0:  # gone since
            reader.close()
            return None
        os.utime(reader.fileno())  # file systems seldom note the time of reading
        return reader

    def _fetch(self, place: Place, shard: Shard, path: Path) -> FileReader:
        """Fetch a shard; to be called under its lock, which says to others that its partial file is being written."""
        partial = self.folder / f".{shard.sha256}.partial"
        source = place.open(shard.name, shard.bytes)
        digest = hashlib.sha256()
        try:
            with FileLock(self.folder / ".room.lock"):
                partial.unlink(missing_ok=True)
                self._make_room(shard.bytes)
                with partial.open("wb") as file:
                    file.truncate(shard.bytes)  # says to others how much it will take
            with partial.open("r+b") as file:
                for start in range(0, shard.bytes, BLOCK_BYTES):
                    block = source.read(start, min(BLOCK_BYTES, shard.bytes - start))
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != shard.sha256:
                raise InputError(
                    f"the shard {place.name(shard.name)} is not the one that the manifest names (its SHA-256 "
                    f"differs): copy the folder anew"
                )
            reader = FileReader(partial)
            _share(reader)  # before it has the name under which it could go
            partial.replace(path)
            return reader
        finally:
            source.close()
            partial.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove what killed downloads left, and the least recently opened shards, until ``size`` more bytes fit."""
        for partial in self.folder.glob(".*.partial"):
            with suppress(Timeout), alone(partial.with_suffix(".lock"), timeout=0):  # nobody writes it
                partial.unlink(missing_ok=True)
        shards = sorted(self._files("*.tar"), key=lambda entry: entry[0].st_mtime_ns)
        excess = sum(status.st_size for status, _ in [*shards, *self._files(".*.partial")]) + size
        excess -= round(self.gigabytes * 1e9)
        for status, path in shards:
            if excess > 0:
                with suppress(Timeout), FileLock(path, timeout=0):  # nobody reads it
                    path.unlink()
                    excess -= status.st_size

    def _files(self, pattern: str) -> Iterator[tuple[os.stat_result, Path]]:
        for path in self.folder.glob(pattern):
            with suppress(FileNotFoundError):  # gone since
                yield path.stat(), path


def _share(reader: FileReader) -> None:
    """Hold a file against removal while it is open; filelock has no such lock that is shared and cheap."""
    fcntl.flock(reader.fileno(), fcntl.LOCK_SH)
