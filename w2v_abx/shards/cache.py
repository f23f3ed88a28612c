"""Shards from afar, kept on this machine: whole, checked when they are fetched, and no more than there is room for."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from w2v_abx.errors import InputError
from w2v_abx.shards.manifest import Shard
from w2v_abx.shards.places import FileReader, Place
from w2v_abx.system.locks import held

__all__ = ["Cache"]

BLOCK = 1 << 20


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
        """The shard, fetched unless it is here.

        Raises `InputError` where it cannot be fetched or stored, or is not what the manifest says.
        """
        path = self.folder / f"{shard.sha256}.tar"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (reader := self._here(path, shard)) is not None:
                return reader
            # One lock for 256 of the shards: lock files cannot be removed without a race, so they are few.
            with held(self.folder / f".fetch-{shard.sha256[:2]}.lock"):
                return self._here(path, shard) or self._fetch(place, shard, path)
        except OSError as error:
            raise InputError(
                f"data.cache={self.folder} cannot hold {place.name(shard.name)} ({error.strerror or error}): "
                f"make room, or set data.cache_gigabytes lower"
            ) from error

    def _here(self, path: Path, shard: Shard) -> FileReader | None:
        try:
            if path.stat().st_size != shard.bytes:
                return None
            reader = FileReader(path)
        except (FileNotFoundError, InputError):  # gone, maybe just now
            return None
        fcntl.flock(reader.fileno(), fcntl.LOCK_SH)  # held while it is open
        if os.fstat(reader.fileno()).st_nlink == 0:  # gone since
            reader.close()
            return None
        os.utime(reader.fileno())  # file systems seldom keep the time of reading
        return reader

    def _fetch(self, place: Place, shard: Shard, path: Path) -> FileReader:
        partial = path.with_name(f".{shard.sha256}.partial")
        source = place.open(shard.name, shard.bytes)
        digest = hashlib.sha256()
        try:
            with ExitStack() as stack:
                with held(self.folder / ".room.lock"):
                    self._make_room(shard.bytes)
                    file = stack.enter_context(partial.open("wb"))
                    fcntl.flock(file, fcntl.LOCK_EX)  # says that it is being written
                    file.truncate(shard.bytes)  # says to others how much it will take
                for start in range(0, shard.bytes, BLOCK):
                    block = source.read(start, min(BLOCK, shard.bytes - start))
                    digest.update(block)
                    file.write(block)
                if digest.hexdigest() != shard.sha256:
                    raise InputError(
                        f"the shard {place.name(shard.name)} is not the one that the manifest names (its SHA-256 "
                        f"differs): copy the folder anew"
                    )
                with held(self.folder / ".room.lock"):  # nobody takes it for one that was left behind
                    file.close()
                    reader = FileReader(partial)
                    fcntl.flock(reader.fileno(), fcntl.LOCK_SH)  # before it has the name under which it could go
                    partial.replace(path)
            return reader
        finally:
            source.close()
            partial.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove what downloads that were killed left behind, and the oldest shards, until ``size`` more fit.

        To be called under the lock of the room.
        """
        coming = [(status, path) for status, path in self._files(".*.partial") if not _remove_unused(path)]
        kept = sorted(self._files("*.tar"), key=lambda entry: entry[0].st_mtime_ns)
        excess = sum(status.st_size for status, _ in kept + coming) + size - self.gigabytes * 1e9
        for status, path in kept:
            if excess > 0 and _remove_unused(path):
                excess -= status.st_size

    def _files(self, pattern: str) -> Iterator[tuple[os.stat_result, Path]]:
        for path in self.folder.glob(pattern):
            with suppress(FileNotFoundError):  # gone since
                yield path.stat(), path


def _remove_unused(path: Path) -> bool:
    """Remove a file unless a process holds it; whether it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
