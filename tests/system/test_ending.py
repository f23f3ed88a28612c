"""A process ends with its status, within a limit, whatever still waits and however often it is interrupted."""

import signal
import subprocess
import sys
import time

import pytest

HEAD = """
import atexit, os, signal, sys, threading, time
from w2v_abx.system import ending
ending.MAX_END_SECONDS = ending.MAX_STOP_SECONDS = 0.3
"""


def start(body: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + body], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, told = process.communicate(timeout=60)
    return process.returncode, out, told


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("print('done', end='')", (0, "done", "")),
        ("sys.exit(75)", (75, "", "")),
        ("sys.exit('what is wrong')", (1, "", "what is wrong\n")),
    ],
)
def test_its_status(body: str, expected: tuple[int, str, str]) -> None:
    assert end(start(f"def main():\n    {body}\nending.run(main)")) == expected


def test_an_error_that_nobody_foresaw_is_shown() -> None:
    status, _, told = end(start("ending.run(lambda: 1 / 0)"))
    assert status == 1
    assert told.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_exit_handlers_run_before_it_is_gone() -> None:
    body = "atexit.register(print, 'handled', end='')\nending.run(lambda: print('done', end=' '))"
    assert end(start(body)) == (0, "done handled", "")


@pytest.mark.parametrize(
    "waits",
    [
        "threading.Thread(target=time.sleep, args=(999,)).start()",
        "atexit.register(time.sleep, 999)",
        "threading.Thread(target=lambda: atexit.register(lambda: threading.Event().wait())).start()",
    ],
)
def test_what_never_ends_is_not_waited_for(waits: str) -> None:
    body = f"def main():\n    {waits}\n    print('the last word', end='')\n    sys.exit(2)\nending.run(main)"
    assert end(start(body)) == (2, "the last word", "")


def test_a_stopped_run_that_never_unwinds_is_not_waited_for() -> None:
    body = "def main():\n    ending.limit(ending.MAX_STOP_SECONDS, 75)\n    time.sleep(999)\nending.run(main)"
    assert end(start(body))[0] == 75


INTERRUPTED = """
def main():
    try:
        print('begins', flush=True)
        time.sleep(999)
    finally:
        print('tidies', flush=True)
        time.sleep({})
        print('tidied', flush=True)
def command():
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('interrupted')
ending.HASTE_SECONDS = {}
ending.run(command)
"""


def test_further_interrupts_leave_the_first_its_time() -> None:
    process = start(INTERRUPTED.format(0.5, 60))
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "tidies\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    status, out, told = end(process)
    assert (status, out) == (1, "tidied\n")
    lines = told.splitlines()
    assert lines[-1] == "interrupted"
    assert all("it is ending; Ctrl-C after" in line for line in lines[:-1])
    assert len(lines) >= 2


def test_an_interrupt_after_a_while_ends_at_once() -> None:
    process = start(INTERRUPTED.format(999, 0))
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "tidies\n"
    process.send_signal(signal.SIGINT)
    assert end(process) == (
        75,
        "",
        "w2v-abx: ended at once; what was saved before is whole, and the same command goes on from there\n",
    )


def test_an_interrupt_after_the_last_word_changes_nothing() -> None:
    body = """
def late():
    os.kill(os.getpid(), signal.SIGINT)
    print('late', end='')
def main():
    atexit.register(late)
ending.run(main)
"""
    assert end(start(body)) == (0, "late", "")


def test_where_interrupts_are_ignored_they_stay_so() -> None:
    body = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nending.run(lambda: os.kill(os.getpid(), signal.SIGINT))"
    assert end(start(body)) == (0, "", "")
