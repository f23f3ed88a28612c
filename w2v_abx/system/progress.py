"""Show how far long work is: a bar on a terminal, lines in a file."""

import math
import time
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

from w2v_abx.system.streams import plain_console

__all__ = ["ClipProgress", "WorkProgress", "tracked"]

T = TypeVar("T")

SECONDS_UNSHOWN = 3.0  # s that work takes before it is worth a bar
MAX_SECONDS_BETWEEN_LINES = 60.0  # s between two lines about clips at most, but for the tenths


class WorkProgress:
    """A bar on a terminal; in a file, a line for each tenth of the work.

    Args:
        work: what is done.
        columns: what stands behind the bar, of `rich.progress`; ``fields`` are what else they show.
        total: of what `update` counts, where it is known.
        transient: the bar goes when the work is done.
        shown: whether there is a bar at all.
    """

    def __init__(
        self,
        work: str,
        *columns: ProgressColumn,
        total: int | None = None,
        console: Console | None = None,
        transient: bool = True,
        shown: bool = True,
        **fields: Any,
    ) -> None:
        self.work, self.total, self.console = work, total, console or plain_console(stderr=True)
        self._tenths = 0
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            console=self.console,
            disable=not (shown and self.console.is_terminal),
            transient=transient,
        )
        self._task = self._bar.add_task(work, total=total, **fields)

    def __enter__(self) -> Self:
        self._bar.start()
        self._printed = time.monotonic()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, done: int, line: str = "", every: float = math.inf, **fields: Any) -> None:
        """Show that so much is done; a file gets ``line``, if one is due: also ``every`` so many seconds."""
        self._bar.update(self._task, completed=done, total=self.total, **fields)
        tenths, now = done * 10 // max(self.total or 0, 1), time.monotonic()
        if line and not self.console.is_terminal and (tenths > self._tenths or now - self._printed >= every):
            self._printed = now
            self.console.print(f"{self.work}{line}", soft_wrap=True)
        elif line:
            return
        self._tenths = tenths


def tracked(work: str, items: Collection[T], *, shown: bool = True) -> Iterator[T]:
    """Give the items one by one, and show how far they are once that has taken a few seconds."""
    began, progress = time.monotonic(), None
    try:
        for done, item in enumerate(items):
            if progress is None and shown and time.monotonic() - began > SECONDS_UNSHOWN:
                progress = WorkProgress(work, MofNCompleteColumn(), total=len(items)).__enter__()
            if progress is not None:
                progress.update(done, f" {done}/{len(items)}", MAX_SECONDS_BETWEEN_LINES)
            yield item
    finally:
        if progress is not None:
            progress.__exit__(None, None, None)


class ClipProgress(WorkProgress):
    """Clips, hours, rate, time left and failures of ``total`` clips; in a file, a line for each tenth and each minute.

    ``work`` says what is done to clips, ``failed`` what became of the others.
    """

    def __init__(self, console: Console, total: int, work: str = "prepare", failed: str = "skipped") -> None:
        columns = MofNCompleteColumn(), TextColumn("{task.fields[state]}", markup=False)
        super().__init__(work, *columns, total=total, console=console, transient=False, state="")
        self.failed = failed
        self.clips = self.failures = 0
        self.hours = 0.0
        self._found = 0  # clips that were there already, which say nothing about the rate
        self._found_hours = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return super().__enter__()

    def add_stored(self, clips: int, failures: int, hours: float) -> None:
        """Count what was there already: ``clips`` of them, of which ``failures`` failed."""
        self._found += clips
        self._found_hours += hours
        self._count(clips, failures, hours)
        self.update(self.clips, state=self.state)

    def advance(self, seconds: float, failed: bool) -> None:
        """Count one clip of so many seconds, or one that failed."""
        self._count(1, int(failed), seconds / 3600)
        state = self.state
        self.update(self.clips, f" {self.clips}/{self.total} {state}", MAX_SECONDS_BETWEEN_LINES, state=state)

    @property
    def state(self) -> str:
        """What has been done, how fast, and how long the rest will take."""
        text = f"clips, {self.hours:.2f} h, {self.failures} {self.failed}"
        done, seconds = self.clips - self._found, time.monotonic() - self._began
        if not done or seconds <= 0:
            return text
        left = int(((self.total or 0) - self.clips) * seconds / done)
        speed = (self.hours - self._found_hours) * 3600 / seconds
        return f"{text}, {done / seconds:.3g} clips/s ({speed:.3g} times real time), {_clock(left)} left"

    def _count(self, clips: int, failures: int, hours: float) -> None:
        self.clips, self.failures, self.hours = self.clips + clips, self.failures + failures, self.hours + hours


def _clock(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
