"""Work that one process at a time may do."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from w2v_abx.errors import InputError

__all__ = ["alone"]


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the file ``lock``, made for it, against other processes and threads; it goes when the work ends.

    A process that dies lets go too, but its file stays. Raises `InputError` where the file cannot be made.
    """
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
        except OSError as error:
            raise InputError(
                f"{lock.parent} cannot be written ({error.strerror or error}): choose another folder"
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _names(lock, file.fileno()):
                continue  # whoever held it before took its name away
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _names(path: Path, handle: int) -> bool:
    """Whether what is open is what the path still stands for."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
