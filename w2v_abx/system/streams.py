"""Standard output and standard error: what is printed there as it is, and work that goes on where they fail."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from rich.console import Console

from w2v_abx.errors import NotWritten

__all__ = ["lasting_streams", "plain_console"]


def plain_console(**options: Any) -> Console:
    """Make a rich console that prints text as it is: a path or a label may look like markup or emoji to rich."""
    return Console(markup=False, emoji=False, highlight=False, **options)


class _File(io.FileIO):
    """A stream's file, of which ``failure`` is the first error; what is written after that is dropped."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            if self.failure is None:
                return super().write(data)
        except BlockingIOError:
            raise  # which the buffer before it knows to handle
        except OSError as error:
            self.failure = error
        return memoryview(data).nbytes


@contextmanager
def lasting_streams(status: int = NotWritten.exit_status) -> Iterator[None]:
    """Let work go on when standard output or standard error can no longer be written, and say so once it has ended.

    The process then ends with ``status``, if that is not 0 and it had ended well. That the reader of a pipe has gone,
    as ``head`` does, is no failure. Streams that somebody captures in this process are left alone.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    files = {number: _File(number, "w", closefd=False) for number in (1, 2)}
    with ExitStack() as stack:
        for number, redirect in ((1, redirect_stdout), (2, redirect_stderr)):
            before = sys.stdout if number == 1 else sys.stderr
            if before is None or (type(before) is io.TextIOWrapper and before.fileno() == number):
                encoding = before.encoding if before else "utf-8"
                own = io.TextIOWrapper(
                    io.BufferedWriter(files[number]), encoding, "backslashreplace", line_buffering=True
                )
                stack.enter_context(redirect(own))
                stack.callback(own.flush)
        yield
        sys.stdout.flush()
        failure = files[1].failure
        if failure is not None and not isinstance(failure, BrokenPipeError):
            reason = f"standard output could not be written ({failure.strerror}): it is not whole"
            print(f"w2v-abx: {reason}", file=sys.stderr)
            if status:
                sys.exit(status)
