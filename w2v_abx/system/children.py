"""Run another program, which ends when this process does."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

__all__ = ["bound", "run"]

# prctl(PR_SET_PDEATHSIG, SIGKILL), which outlives execve; where the parent died before, nothing is run. A preexec_fn
# would do the same between fork and exec, where Python allows no other threads.
DIES_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)


def bound(command: Sequence[str]) -> list[str]:
    """``command``, whose first item is the path of a program, so that it ends when this process does.

    On Linux the kernel kills it when the thread that started it ends, however that ends; elsewhere it is left behind.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", DIES_WITH_PARENT, str(os.getpid()), *command]


def run(
    command: Sequence[str], *, stop: threading.Event, limit: float, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Exit status and standard error of ``command``, whose first item is the path of a program.

    It is killed after ``limit`` seconds or once ``stop`` is set, which raises `TimeoutError`; and on Linux by the
    kernel when this process dies, however it dies. Elsewhere a killed process leaves it behind.
    """
    with subprocess.Popen(
        bound(command), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + limit
        while True:
            try:
                _, log = process.communicate(timeout=0.2)
                return process.returncode, log.decode(errors="replace")
            except subprocess.TimeoutExpired:
                if stop.is_set() or time.monotonic() > deadline:
                    process.kill()
                    process.communicate()
                    raise TimeoutError(f"not done after {limit:g} s") from None
