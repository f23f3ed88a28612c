"""Signals come to every rank, once; and no rank outlives the process that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1] / "support"


def begin(folder: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A supervisor whose ranks wait for a signal, and these ranks."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from rank_tasks import *; supervise(Path({str(folder)!r}))"],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    told = [folder / "pid0", folder / "pid1"]
    while not all(path.exists() and path.read_text() for path in told):
        assert process.poll() is None
        time.sleep(0.02)
    return process, [int(path.read_text()) for path in told]


def test_all_ranks_get_it_and_then_who_handled_it_before(tmp_path: Path) -> None:
    """Where a second signal comes while they save, it is the first one that counts."""
    process, _ = begin(tmp_path)
    process.send_signal(signal.SIGUSR1)
    while not all((tmp_path / f"first{rank}").exists() for rank in (0, 1)):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75  # the first rank's
    got = f"[{signal.SIGUSR1:d}, {signal.SIGTERM:d}]"
    assert [(tmp_path / f"got{rank}").read_text() for rank in (0, 1)] == [got] * 2
    assert (tmp_path / "queued").exists()
    assert not (tmp_path / "bypassed").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel kills the children of a killed process")
def test_no_rank_is_left_behind(tmp_path: Path) -> None:
    process, ranks = begin(tmp_path)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while (left := [rank for rank in ranks if runs(rank)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    for rank in left:
        os.kill(rank, signal.SIGKILL)
    assert not left


def runs(process: int) -> bool:
    """Not as a zombie, which nobody may be there to wait for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
