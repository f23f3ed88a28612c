"""How far long work on clips is: a bar on a terminal, lines in a file."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

__all__ = ["ClipProgress"]

EVERY = 60.0  # s between two lines at most, but for the tenths


class ClipProgress:
    """Clips, hours, rate, time left and failures of ``total`` clips.

    On a terminal it is a bar; elsewhere (a file, a pipe, a job's log) a line for each tenth of the clips and each
    minute. ``work`` says what is done to clips, ``failed`` what became of the others.
    """

    def __init__(self, console: Console, total: int, work: str = "prepare", failed: str = "skipped") -> None:
        self.console, self.total, self.work, self.failed = console, total, work, failed
        self.clips = self.failures = 0
        self.hours = 0.0
        self._kept = 0  # found whole, which says nothing about the rate
        self._kept_hours = 0.0
        self._tenths = 0
        self._bar = Progress(
            TextColumn(work),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        self._began = self._told = time.monotonic()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def keep(self, clips: int, failures: int, hours: float) -> None:
        """Count what was already there: ``clips`` of them, of which ``failures`` failed."""
        self._kept += clips
        self._kept_hours += hours
        self._count(clips, failures, hours)
        self._tenths = self._tenth

    def advance(self, seconds: float, failed: bool) -> None:
        """Count one clip of so many seconds, or one that failed."""
        self._count(1, int(failed), seconds / 3600)
        now = time.monotonic()
        if not self.console.is_terminal and (self._tenth > self._tenths or now - self._told >= EVERY):
            self._tenths, self._told = self._tenth, now
            self.console.print(f"{self.work} {self.clips}/{self.total} {self.state}", highlight=False, soft_wrap=True)

    @property
    def state(self) -> str:
        """What has been done, how fast, and how long the rest will take."""
        text = f"clips, {self.hours:.2f} h, {self.failures} {self.failed}"
        done, seconds = self.clips - self._kept, time.monotonic() - self._began
        if not done or seconds <= 0:
            return text
        left = int((self.total - self.clips) * seconds / done)
        speed = (self.hours - self._kept_hours) * 3600 / seconds
        return f"{text}, {done / seconds:.3g} clips/s ({speed:.3g} times real time), {_clock(left)} left"

    @property
    def _tenth(self) -> int:
        return self.clips * 10 // max(self.total, 1)

    def _count(self, clips: int, failures: int, hours: float) -> None:
        self.clips, self.failures, self.hours = self.clips + clips, self.failures + failures, self.hours + hours
        if self.console.is_terminal:
            self._bar.update(self._task, completed=self.clips, description=self.state)


def _clock(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
