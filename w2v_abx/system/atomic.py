"""Files that are either whole or not there."""

import fcntl
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2v_abx.errors import NotWritten

if TYPE_CHECKING:
    import polars

__all__ = ["scratch_folder", "sweep", "write", "write_folder", "write_json", "write_parquet", "write_text", "written"]


UNFINISHED = ".w2v-abx-"  # begins the name of what is being written
MAX_CLAIMS, CLAIM_INTERVAL = 100, 0.01  # tries to hold it, and s between two
_swept: set[Path] = set()  # folders, by this process


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Make NotWritten, with the file's name, of an OSError in here."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"{path} cannot be written ({error.strerror or error})") from error


def write(path: Path, writer: Callable[[Path], Any], *, lasting: bool = False, mode: int = 0o666) -> None:
    """Let ``writer`` fill a temporary file beside ``path``, then rename it; nothing is left behind when it fails.

    ``lasting``: onto the disk and not merely into its cache, so that after a power failure, too, it is there and whole.
    ``mode``: who may read and write it, but for those whom the process's umask keeps out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent)
    temporary = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    with _held(lambda: (os.open(temporary, os.O_CREAT | os.O_RDWR, mode), temporary)):
        try:
            writer(temporary)
            if lasting:
                _sync(temporary)
            temporary.replace(path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)  # not once it is renamed: another thread's may be there by then
            if isinstance(error, OSError):
                error.filename = error.filename or str(path)  # of a full disk it does not say
            raise
    if lasting:
        with suppress(OSError):  # not every system can, of a folder
            _sync(path.parent)


def write_folder(folder: Path, fill: Callable[[Path], Any]) -> None:
    """Let ``fill`` make a temporary folder's content, then rename it to ``folder``, unless another process was faster.

    Nothing is left behind when it fails.
    """
    with scratch_folder(folder.parent, folder.name) as temporary:
        fill(temporary)
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():
                raise


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder in ``parent`` for what is to become ``name``; what is in it at the end goes.

    What a process that was killed has left of this kind goes when the next one begins.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(parent)
    made: list[Path] = []

    def make() -> tuple[int, Path]:
        made.append(Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{name}-", dir=parent)))
        return os.open(made[-1], os.O_RDONLY), made[-1]

    with _held(make):
        try:
            yield made[-1]
        finally:
            shutil.rmtree(made[-1], ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what processes that were killed have left half made in a folder: what none of them holds any more."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):  # held, gone, another user's, or on a file system without locks
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


def _sweep_once(folder: Path) -> None:
    """Sweep a folder when this process first writes to it."""
    if folder.absolute() not in _swept:
        _swept.add(folder.absolute())
        sweep(folder)


@contextmanager
def _held(opened: Callable[[], tuple[int, Path]]) -> Iterator[None]:
    """Hold what ``opened`` opens, so that no other process takes it for left over."""
    for _ in range(MAX_CLAIMS):
        handle, path = opened()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # it is being swept, or another thread writes the same
            os.close(handle)
            time.sleep(CLAIM_INTERVAL)
            continue
        except OSError:  # a file system without locks, where nothing is swept
            break
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.lstat()):
                break
        os.close(handle)  # swept, or renamed by another thread, before it was held
    else:
        handle, _ = opened()
    try:
        yield
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str, *, lasting: bool = False) -> None:
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), lasting=lasting)


def write_parquet(path: Path, table: "polars.DataFrame", *, lasting: bool = False) -> None:
    """By way of memory: a full disk is then an OSError like any other."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    write(path, lambda temporary: temporary.write_bytes(buffer.getvalue()), lasting=lasting)


def write_json(path: Path, value: Any, *, lasting: bool = False) -> None:
    """Strict JSON: not-a-number has no place in a result."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", lasting=lasting)
