"""Where fetched clips lie, and where they are made."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cached", "scratch_folder"]


def cached(root: Path, key: str) -> Path:
    """Where a clip's audio goes. Folders are hashes: ids differ by capitals, which some disks do not tell apart."""
    return root / "clips" / hashlib.blake2b(key.encode(), digest_size=2).hexdigest()[:3] / f"{key}.flac"


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A folder for half-done files. Those of processes that were killed are removed: their locks died with them."""
    parent = root / "unfinished"
    parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        with _locked(os.open(parent, os.O_RDONLY)):  # while folders come and go
            for left in parent.iterdir():
                if not _is_locked(left):
                    shutil.rmtree(left, ignore_errors=True)
            folder = held.enter_context(tempfile.TemporaryDirectory(dir=parent))
            held.enter_context(_locked(os.open(folder, os.O_RDONLY)))
        yield Path(folder)


@contextmanager
def _locked(handle: int) -> Iterator[None]:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_locked(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
