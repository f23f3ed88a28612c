"""Signals that ask a run to save and to stop."""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from w2v_abx.errors import InputError, NotWritten, Unlearnable
from w2v_abx.system import checks, ending
from w2v_abx.system.ending import EXIT_STATUS

__all__ = [
    "EXIT_STATUS",
    "OWN_HANDLERS",
    "Stopped",
    "Watch",
    "asked",
    "check",
    "held",
    "is_due_to_signal",
    "patience",
    "reinstate",
]

OWN_HANDLERS = (signal.default_int_handler, ending.interrupt)  # which only end the process

_watch: "Watch | None" = None


class Stopped(SystemExit):
    """The run was asked to stop and has; what it had done is on disk. Ends the process with `EXIT_STATUS`.

    Other ranks than the first end with 0, or Lightning, which may have started them, would kill the first.
    """

    def __init__(self, number: int, message: str = "outside of training; what is done is stored") -> None:
        from lightning.pytorch.utilities import rank_zero_only  # which the run that stops has loaded

        super().__init__(0 if getattr(rank_zero_only, "rank", 0) else EXIT_STATUS)
        ending.limit(ending.MAX_STOP_SECONDS, EXIT_STATUS)
        self.signal = signal.Signals(number)
        self.message = f"stopped by {self.signal.name} {message}"

    @property
    def state(self) -> str:
        """What the run has become."""
        return "interrupted" if self.signal == signal.SIGINT else "preempted"


class Watch:
    """While it is entered, the signals ``names`` end the run with `Stopped`: at once, or under `patience` when the
    training loop comes to where it can save. Further ones change nothing of that, but that SIGINT ends the process at
    once when it comes again after `ending.HASTE_SECONDS`.

    Whoever handled the signal before is called once the run has ended: submitit, for one, queues the job again. Signals
    that were ignored still are (nohup). Signals come to the main thread; elsewhere this does nothing.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """``names``: SIGTERM and the like. Raises InputError for what is none."""
        for name in names:
            checks.choice("signals", name, [known.name for known in signal.Signals])
            if name in ("SIGKILL", "SIGSTOP"):
                raise InputError(f"signals={name}: no process gets it; leave it out")
        self.numbers = [signal.Signals[name] for name in names]
        self.asked: signal.Signals | None = None
        self.patient = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        global _watch  # noqa: PLW0603 signals, too, come to the process as a whole
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in self.numbers}
            self._before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
            self.reinstate()
            _watch = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _watch  # noqa: PLW0603
        _watch = None
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        stopped = error if isinstance(error, Stopped) else None
        if self.asked is not None and is_due_to_signal(error):
            stopped = Stopped(self.asked, f"({error})")
        if stopped is None:
            return
        if stopped.code:
            print(f"w2v-abx: {stopped.message}", file=sys.stderr)
        handler = self._before.get(stopped.signal)
        if callable(handler) and handler not in OWN_HANDLERS:
            handler(stopped.signal, None)
        if stopped is not error:
            raise stopped from error

    def reinstate(self) -> None:
        """Handle the signals, whoever has come to handle them since: Lightning does."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            if number == signal.SIGINT:
                ending.again()
            return
        self.asked = signal.Signals(number)
        ending.begin()
        if not self.patient:
            raise Stopped(number)
        if number == signal.SIGINT:
            ending.tell(
                f"Ctrl-C: ends when this step is done and saved; another one after {ending.HASTE_SECONDS:.0f} s would "
                f"end it at once, and resume=auto go on from the last checkpoint"
            )


def reinstate() -> None:
    """Have signals come to the `Watch` that is entered, if one is."""
    if _watch is not None:
        _watch.reinstate()


def asked() -> int:
    """The signal that has asked this process to stop; 0: none has."""
    return 0 if _watch is None or _watch.asked is None else int(_watch.asked)


def is_due_to_signal(error: BaseException | None) -> bool:
    """Whether a run that was asked to stop can have failed of it: the signal ends others, too, such as a program that
    clips come through. What a step made of the weights is not its doing, nor is a full disk."""
    return isinstance(error, Exception) and not isinstance(error, Unlearnable | NotWritten)


@contextmanager
def held() -> Iterator[None]:
    """Let signals wait for the end of a few lines that must not be left half done, such as the start of a process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in before:
        signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in map(signal.Signals, waiting):
            signal.raise_signal(number)


def check() -> None:
    """Raise `Stopped` if a signal has asked for it."""
    if number := asked():
        raise Stopped(number)


def patience(patient: bool) -> None:
    """Whether what runs from now on sees for itself that it is asked to stop."""
    if _watch is not None:
        _watch.patient = patient
        reinstate()
