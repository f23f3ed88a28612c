"""How long a device works on what it is given."""

from collections import deque
from typing import Any

import torch

from w2v_abx.thermal.sampler import Clock
from w2v_abx.thermal.stats import StepStats

__all__ = ["CudaTimer", "HostTimer"]


class HostTimer:
    """Times a device whose work is done when a call returns: a CPU, or a simulated one."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._mark = clock, clock.now()
        self._laps: list[StepStats] = []

    def begin(self) -> None:
        """Count from here."""
        self._mark = self._clock.now()

    def lap(self, clips: int = 0, batch: int = 0) -> None:
        """Count up to here, and from here on; ``clips`` of a ``batch`` ran as a micro-batch, 0: something else did."""
        now = self._clock.now()
        self._laps.append(StepStats.of_work(now - self._mark, clips, batch))
        self._mark = now

    def take(self, wait: bool) -> list[StepStats]:
        """Return the laps that are over and were not yet taken; ``wait``: all of them, once the device is idle."""
        laps, self._laps = self._laps, []
        return laps


class CudaTimer:
    """Times a CUDA device, which works after the call has returned, by its own events, so that the host need not
    wait; a lap is known once the device has passed its end. The methods are those of `HostTimer`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: deque[tuple[Any, Any, int, int]] = deque()
        self.begin()

    def begin(self) -> None:
        self._mark = self._event()

    def lap(self, clips: int = 0, batch: int = 0) -> None:
        event = self._event()
        self._pending.append((self._mark, event, clips, batch))
        self._mark = event

    def take(self, wait: bool) -> list[StepStats]:
        if wait:
            torch.cuda.synchronize(self._device)
        laps: list[StepStats] = []
        while self._pending and self._pending[0][1].query():
            began, ended, clips, batch = self._pending.popleft()
            laps.append(StepStats.of_work(began.elapsed_time(ended) / 1000, clips, batch))
        return laps

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
