"""Start the ranks of a job on this machine, pass on the signals it gets, and see all of them end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from w2v_abx.distributed.group import publish_job
from w2v_abx.distributed.meeting import FOLDER, MeetingFolder, private_folder
from w2v_abx.errors import InputError
from w2v_abx.system.children import bound
from w2v_abx.system.machine import ENVIRONMENT, processors
from w2v_abx.system.signals import OWN_HANDLERS

__all__ = ["run_ranks"]

FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")
GRACE = 15.0  # s, from when one rank has failed until the others are killed, so that the first one can log it
LONG_GRACE = 600.0  # s, where the first one has said that it is at work on that: loggers may have much to upload
GRACE_WITHOUT_FIRST = 2.0  # s, where it was the first one
POLL_INTERVAL = 0.05  # s between looks at the ranks
# By which a process knows that srun or torchrun started it.
FOREIGN = ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "GROUP_RANK", "ROLE_RANK")


def run_ranks(job: str, size: int) -> None:
    """Run a ``job``, as `describe_job` describes it, in ``size`` new processes, and return once all have ended well.

    This process is none of the ranks, and starts them from the job, not from its own command line: so it may be in the
    middle of a sweep, and the next job finds nothing left of this one. On Linux the kernel ends them when this process
    is killed. Signals are passed on to all ranks; if these end of it, so does this process: whoever handled the signal
    before is called, as submitit, which queues the job again, and `SystemExit` raised with the first rank's status.

    Raises:
        InputError: a rank has failed or was killed; the others were ended.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with private_folder() as folder, _forwarding(processes) as received:
        meeting = MeetingFolder(folder)
        meeting.set("supervisor", str(os.getpid()))
        publish_job(meeting, job, folder)
        try:
            for rank in range(size):
                processes.append(_start(rank, size, folder))
                if received:  # before it was there
                    processes[-1].send_signal(received[0])
            statuses, ended = _wait(processes, meeting)
        finally:
            for process in processes:
                _kill(process)
        failure = _failure(meeting, statuses, ended) if any(statuses) and not received else None
    if received:  # the ranks, too, do what the first one asks for
        handler = signal.getsignal(received[0])
        if callable(handler) and handler not in OWN_HANDLERS:
            handler(received[0], None)
        sys.exit(statuses[0] if statuses[0] > 0 else 128 + received[0])
    if failure is not None:
        raise failure


def _start(rank: int, size: int, folder: Path) -> subprocess.Popen[bytes]:
    first = rank == 0
    return subprocess.Popen(
        bound([sys.executable, "-m", "w2v_abx.distributed"]),
        env=_environment(os.environ, rank, size, folder),
        stdin=subprocess.DEVNULL,
        stdout=None if first else subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C comes by way of this process, once
    )


def _environment(own: Mapping[str, str], rank: int, size: int, folder: Path) -> dict[str, str]:
    """Return the variables that torchrun sets, where Lightning and PyTorch look."""
    inherited = {
        name: value for name, value in own.items() if name not in FOREIGN and not name.startswith("TORCHELASTIC_")
    }
    share = str(max(1, processors() // size))
    return {
        "OMP_NUM_THREADS": share,
        "NUMBA_NUM_THREADS": share,
        **ENVIRONMENT,
        **inherited,
        **({"PYTHONWARNINGS": "ignore"} if rank else {}),  # the first rank gives them
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        FOLDER: str(folder),
    }


def _wait(processes: list[subprocess.Popen[bytes]], meeting: MeetingFolder) -> tuple[list[int], set[int]]:
    """Return the exit statuses, and the ranks that were killed here after another had failed."""
    failed_at, ended = None, set[int]()
    while True:
        statuses = [process.poll() for process in processes]
        now = time.monotonic()
        failed_at = now if failed_at is None and any(statuses) else failed_at
        running = [rank for rank, status in enumerate(statuses) if status is None]
        if not running:
            return [status or 0 for status in statuses], ended
        grace = GRACE_WITHOUT_FIRST if statuses[0] else LONG_GRACE if meeting.get("ends") is not None else GRACE
        if failed_at is not None and now > failed_at + grace:
            for rank in running:
                ended.add(rank)
                _kill(processes[rank])
        time.sleep(POLL_INTERVAL)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a rank and the processes that it has started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(meeting: MeetingFolder, statuses: list[int], ended: set[int]) -> InputError:
    """Say why ranks have failed: the first failure, since the others may have failed of it."""
    size = len(statuses)
    for rank, status in enumerate(statuses):
        if status < 0 and rank not in ended:
            name = signal.Signals(-status).name
            hint = ": was memory short?" if name == "SIGKILL" else ""
            return InputError(f"rank {rank} of {size} was killed by {name}{hint}; the others were ended", 1)
    reports: list[dict[str, Any]] = []
    for rank, status in enumerate(statuses):
        if (failure := meeting.get(f"failed/{rank}")) is not None:
            reports.append({"rank": rank, **json.loads(failure)})
        elif status and rank not in ended:
            reports.append({"rank": rank, "message": f"it ended with status {status}", "trace": "", "time": 0.0})
    first = min(reports, key=lambda report: report["time"])
    if first["trace"] is None:
        return InputError(first["message"], statuses[first["rank"]])
    sys.stderr.write(first["trace"])
    return InputError(f"rank {first['rank']} of {size} failed: {first['message']}", 1)


@contextmanager
def _forwarding(processes: list[subprocess.Popen[bytes]]) -> Iterator[list[signal.Signals]]:
    """Pass signals on to the ``processes``, where this is the thread that gets them; yields those that have come."""
    received: list[signal.Signals] = []
    before: dict[signal.Signals, Any] = {}

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        for process in processes:
            process.send_signal(number)  # nothing happens to one that has ended

    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in FORWARDED if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                before[number] = signal.signal(number, forward)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
