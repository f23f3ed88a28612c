"""What this process may use of its machine, and how."""

import contextlib
import ctypes
import math
import os
from pathlib import Path

__all__ = [
    "ENVIRONMENT",
    "give_back_freed_memory",
    "keep_freed_memory",
    "processors",
    "set_environment",
]

ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",  # PyTorch's threads would spin while they wait, and starve others where cores are few
    "THP_MEM_ALLOC_ENABLE": "1",  # PyTorch's large arrays in large pages, where the system has them (Linux)
}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 256 << 20  # bytes
LARGEST = 32 << 20  # bytes, the most that glibc takes
GROUPS = Path("/sys/fs/cgroup")


def processors() -> int:
    """Count the processors that this process may use: those it may run on, and no more than its control group's quota.

    A quota of 1.5 processors, as containers and Slurm set them, counts as 2.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *_processor_quotas(Path("/proc/self/cgroup"))])


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


def _processor_quotas(listing: Path, root: Path = GROUPS) -> list[int]:
    """Read how many processors, rounded up, control groups and those around them may use (Linux).

    Args:
        listing: of the groups: ``/proc/self/cgroup``.
        root: where control groups are mounted.
    """
    quotas = []
    for line in listing.read_text().splitlines() if listing.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In version 1 of control groups, two files of a folder per controller; in version 2, one file.
        base, names = (root / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]) if controllers else (root, ["cpu.max"])
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base) and all((folder / name).is_file() for name in names):
                quota, period = (word for name in names for word in (folder / name).read_text().split())
                if quota.isdigit():
                    quotas.append(max(1, math.ceil(int(quota) / int(period))))
    return quotas
