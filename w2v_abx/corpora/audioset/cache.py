"""Where fetched clips lie, and where they are made."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from w2v_abx.system.locks import alone

__all__ = ["cached", "scratch_folder"]

LOCK = ".lock"


def cached(root: Path, key: str) -> Path:
    """Where a clip's audio goes. Folders are hashes: ids differ by capitals, which some disks do not tell apart."""
    return root / "clips" / hashlib.blake2b(key.encode(), digest_size=2).hexdigest()[:3] / f"{key}.flac"


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """Make a folder for half-done files, and remove those of processes that were killed: their locks died with them."""
    parent = root / "unfinished"
    with contextlib.ExitStack() as stack:
        with alone(parent / LOCK):  # while folders come and go
            for left in parent.glob("*/"):
                with contextlib.suppress(Timeout), FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent)))
            stack.enter_context(FileLock(folder / LOCK))
        yield folder
