"""Hold a lock file while work lasts that one process at a time may do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from w2v_abx.errors import NotWritten

__all__ = ["alone"]


@contextmanager
def alone(lock: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the file ``lock``, made for it, against other processes and threads; it goes when the work ends.

    A process that dies lets go too, but its file stays. Raises `filelock.Timeout` where another holds it for
    ``timeout`` seconds (-1: waits as long as it takes), and `NotWritten` where the file cannot be made.
    """
    held = FileLock(lock, timeout=timeout)
    while not held.is_locked:
        try:
            held.acquire()
        except Timeout:
            raise
        except FileNotFoundError:
            continue  # who held it before has removed its folder
        except OSError as error:
            raise NotWritten(
                f"{lock.parent} cannot be written ({error.strerror or error}): choose another folder"
            ) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # who has opened it meanwhile sees that it is gone, and makes another
        held.release()
