"""How long a device works on what it is given."""

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from w2v_abx.thermal.sampler import Clock

__all__ = ["CudaTimer", "HostTimer", "Timer", "Work"]


@dataclass(frozen=True)
class Work:
    """``clips`` that run at once, of a batch of so many. ``divisible``: it could have been fewer."""

    clips: int
    batch: int
    divisible: bool


Lap = tuple[float, Work | None]


class Timer(Protocol):
    """Seconds between points of a device's time, each with what was run in between (None: something else)."""

    def begin(self) -> None:
        """Count from here."""
        ...

    def lap(self, work: Work | None) -> None:
        """Up to here, and from here on."""
        ...

    def take(self, wait: bool) -> list[Lap]:
        """The laps that are over and were not yet taken; ``wait``: for all of them, until the device is idle."""
        ...


class HostTimer:
    """For a device whose work is done when a call returns: a CPU, or a simulated one."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._mark = clock, clock.now()
        self._laps: list[Lap] = []

    def begin(self) -> None:
        self._mark = self._clock.now()

    def lap(self, work: Work | None) -> None:
        now = self._clock.now()
        self._laps.append((now - self._mark, work))
        self._mark = now

    def take(self, wait: bool) -> list[Lap]:
        laps, self._laps = self._laps, []
        return laps


class CudaTimer:
    """For a CUDA device, which is handed work to do later. It tells itself when, by events, so the host need not wait;
    a lap is known once it is over."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._waiting: deque[tuple[Any, Any, Work | None]] = deque()
        self.begin()

    def begin(self) -> None:
        self._mark = self._event()

    def lap(self, work: Work | None) -> None:
        event = self._event()
        self._waiting.append((self._mark, event, work))
        self._mark = event

    def take(self, wait: bool) -> list[Lap]:
        if wait:
            torch.cuda.synchronize(self._device)
        laps: list[Lap] = []
        while self._waiting and self._waiting[0][1].query():
            began, ended, work = self._waiting.popleft()
            laps.append((began.elapsed_time(ended) / 1000, work))
        return laps

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
