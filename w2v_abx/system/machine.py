"""What this process may use of its machine, and how."""

import contextlib
import ctypes
import os
from pathlib import Path

import psutil

__all__ = [
    "ENVIRONMENT",
    "available_memory",
    "give_back_freed_memory",
    "keep_freed_memory",
    "processors",
    "resident_memory",
    "set_environment",
]

ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",  # PyTorch's threads would spin while they wait, and starve others where cores are few
    "THP_MEM_ALLOC_ENABLE": "1",  # PyTorch's large arrays in large pages, where the system has them (Linux)
}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 256 << 20  # bytes
LARGEST = 32 << 20  # bytes, the most that glibc takes


def processors() -> int:
    """The number of processors that this process may use, where the system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_environment() -> None:
    """What PyTorch reads of it when it is loaded, unless the user set it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def keep_freed_memory() -> None:
    """Let glibc use freed memory again, which it else gives back and gets zeroed anew for each array.

    That took a third of the time in which a clip is cleaned. Without effect on another C library.
    """
    with contextlib.suppress(OSError, AttributeError):
        glibc = ctypes.CDLL(None)
        glibc.mallopt(M_TRIM_THRESHOLD, KEPT)
        glibc.mallopt(M_MMAP_THRESHOLD, LARGEST)


def give_back_freed_memory() -> None:
    """Return to the system what glibc keeps of freed memory. Without effect on another C library."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident_memory() -> int:
    """Bytes of the machine's memory that this process takes."""
    return int(psutil.Process().memory_info().rss)


def available_memory() -> int:
    """Bytes that this process may still take, of the machine or of its control group (a Slurm job, a container)."""
    limits = [limit - resident_memory() for limit in _group_limits(Path("/proc/self/cgroup"))]
    return max(0, min([int(psutil.virtual_memory().available), *limits]))


def _group_limits(listing: Path, root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Bytes that the control groups in ``listing``, and those around them, may take (Linux, both versions of them)."""
    limits = []
    for line in listing.read_text().splitlines() if listing.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base) and (folder / name).is_file():
                text = (folder / name).read_text().strip()
                limits += [int(text)] if text.isdigit() else []
    return limits
