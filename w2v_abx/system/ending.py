"""The end of a process: what Ctrl-C does, again and again, how long ending may take, and what is left out of it."""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

__all__ = ["EXIT_STATUS", "HASTE_SECONDS", "again", "begin", "interrupt", "limit", "run", "tell"]

EXIT_STATUS = 75  # sysexits.h: a temporary failure, the user is invited to retry
HASTE_SECONDS = 10.0  # s from the first Ctrl-C on in which another one changes nothing
MAX_STOP_SECONDS = 600.0  # s from when all is saved until a stopped process is gone: loggers may have much to upload
MAX_END_SECONDS = 60.0  # s from a process's last word until it is gone

_began: float | None = None  # when it was first asked to end
_owned = False  # whether this process is one of `run`'s


def run(main: Callable[[], None]) -> NoReturn:
    """Run ``main`` as all that this process does, and end the process with its status.

    After its last word Ctrl-C changes nothing, and threads and exit handlers that still wait then may do so for
    `MAX_END_SECONDS`. The interpreter is not taken down: gloo's threads outlive their process groups where anything of
    DistributedDataParallel's is left, and one that lets go of a tensor while there is no interpreter any more aborts
    the process (SIGABRT) though its work is done: https://github.com/pytorch/pytorch/pull/179291
    """
    global _owned  # noqa: PLW0603 as signals are, the end is of the process as a whole
    status = 1
    _owned = True
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):  # not under nohup
        signal.signal(signal.SIGINT, interrupt)
    try:
        main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit(MAX_END_SECONDS, status)
    threading._shutdown()  # type: ignore[attr-defined] # what the interpreter itself does at its end, in its order
    atexit._run_exitfuncs()
    _leave(status)


def limit(seconds: float, status: int) -> None:
    """End the process with ``status`` if it is still there after so long."""
    if _owned:
        timer = threading.Timer(seconds, _leave, [status])
        timer.daemon = True
        timer.start()


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT: raise KeyboardInterrupt, once."""
    if _began is not None:
        again()
        return
    begin()
    raise KeyboardInterrupt


def begin() -> None:
    """Note that the process is asked to end now."""
    global _began  # noqa: PLW0603
    _began = time.monotonic()


def again() -> None:
    """Handle a Ctrl-C in a process that is about to end because of one: it says so; after a while it ends at once."""
    left = HASTE_SECONDS - (time.monotonic() - (_began or 0.0))
    if left > 0:
        tell(f"it is ending; Ctrl-C after {left:.0f} s more would end it at once, with what is saved until then")
    elif _owned:
        tell("ended at once; what was saved before is whole, and the same command goes on from there")
        _leave(EXIT_STATUS)
    else:
        raise KeyboardInterrupt


def tell(text: str) -> None:
    """Print a line on standard error, from a signal handler, too; of several ranks, the first one does."""
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            os.write(2, f"w2v-abx: {text}\n".encode())


def _leave(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a pipe that nobody reads, a full disk, a print that a signal has interrupted
            stream.flush()
    os._exit(status)
