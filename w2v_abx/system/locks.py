"""Work that one process at a time may do."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from w2v_abx.errors import InputError

__all__ = ["alone", "held"]


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


@contextmanager
def held(lock: Path, *, shared: bool = False, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the file ``lock``, which stays, until the work ends or the process dies.

    Those that hold it ``shared`` do so together. ``waiting`` is called where another has it. A file, since network file
    systems do not lock folders.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with lock.open("ab+") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, kind)
        yield


def _names(path: Path, handle: int) -> bool:
    """Whether what is open is what the path still stands for."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
