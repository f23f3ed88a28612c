"""Programs that are run end in time, and with the process that ran them."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from w2v_abx.system.children import run

SLEEP, SH = shutil.which("sleep") or "", shutil.which("sh") or ""


def test_status_and_what_it_says() -> None:
    stop = threading.Event()
    assert run([SH, "-c", "echo é >&2; exit 3"], stop=stop, limit=60) == (3, "é\n")
    assert run([SH, "-c", "echo $WORD >&2"], stop=stop, limit=60, environment={"WORD": "said"}) == (0, "said\n")


def test_it_is_stopped() -> None:
    stop = threading.Event()
    with pytest.raises(TimeoutError, match="not done after 0.1 s"):
        run([SLEEP, "300"], stop=stop, limit=0.1)
    stop.set()
    with pytest.raises(TimeoutError):
        run([SLEEP, "300"], stop=stop, limit=300)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel kills the children of a killed process")
def test_it_dies_with_a_process_that_is_killed() -> None:
    script = f"""
import threading
from w2v_abx.system.children import run
run([{SH!r}, "-c", "echo $$; exec {SLEEP} 300"], stop=threading.Event(), limit=300)
"""
    # Its own output is closed to a child; the number comes by a file descriptor of ours.
    reading, writing = os.pipe()
    script = script.replace("echo $$;", f"echo $$ > /proc/{os.getpid()}/fd/{writing};")
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        child = int(os.read(reading, 100))
        process.send_signal(signal.SIGKILL)
    os.close(reading)
    os.close(writing)
    deadline = time.monotonic() + 30
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    left = _runs(child)
    if left:
        os.kill(child, signal.SIGKILL)
    assert not left


def _runs(process: int) -> bool:
    """Not as a zombie, which nobody may be there to wait for."""
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
