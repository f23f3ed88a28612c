"""Measure what the device of one rank did, for its governor."""

import math
from dataclasses import replace

from w2v_abx.thermal.simulated import Simulated
from w2v_abx.thermal.stats import StepStats
from w2v_abx.thermal.throttle import Throttle
from w2v_abx.thermal.timer import CudaTimer, HostTimer

__all__ = ["WorkMeter"]

REST_SHARE_SECONDS = 30.0  # over which the share of rest is taken; shorter ones show single rests


class WorkMeter:
    """Adds up work and rest between decisions.

    Attributes:
        throttle: Whose micro-batches are measured; None: batches run at once.
        undivided: Clips that run at once next, whatever the throttle; 0: it hands them out.
    """

    def __init__(self, timer: HostTimer | CudaTimer, plant: Simulated | None, *, alone: bool) -> None:
        """``plant``: the simulated device, which works only here. ``alone``: there are no other ranks."""
        self.throttle: Throttle | None = None
        self._timer, self._plant, self._alone = timer, plant, alone
        self.undivided = 0
        self._batch = 1  # clips of the effective batch
        self._stats = StepStats()
        self._recent = StepStats()

    @property
    def microbatch(self) -> int:
        """Clips that would run at once now."""
        size = None if self.throttle is None else self.throttle.size
        return self._batch if size is None else min(size, self._batch)

    @property
    def rest_share(self) -> float:
        """Share of rest in the last half minute or so."""
        return self._recent.rested / max(self._recent.busy + self._recent.rested, 1e-9)

    def begin(self, clips: int = 0) -> None:
        """Start to measure a training batch, or a part of it: waiting for data is no work. ``clips``: see
        ``undivided``."""
        self._timer.begin()
        if clips:
            self._batch = self.undivided = clips

    def end(self, wait: bool) -> None:
        """Measure the micro-batch that ended, or what came after it. ``wait``: see `measure`."""
        clips = batch = 0
        if self.throttle is not None and self.throttle.handed is not None:
            (clips, batch), self.throttle.handed = self.throttle.handed, None
            self._batch = batch
        ran, self.undivided = clips or self.undivided, 0
        if ran and self._plant is not None:
            self._plant.work(ran)
        if ran or self._alone:
            self._timer.lap(clips, batch)
        else:
            self._timer.begin()  # beside other ranks, most of what is no micro-batch is waiting for them
        self.measure(wait)

    def measure(self, wait: bool) -> None:
        """Add the work that is done; ``wait``: until all of it is."""
        for lap in self._timer.take(wait):
            self._stats.add(lap)

    def add_rest(self, seconds: float) -> None:
        """Add rest."""
        self._stats.rested += seconds

    def take(self, *, divisible: bool) -> StepStats:
        """Return what was done since the last time; ``divisible``: with the longest micro-batch, which is kept for
        later otherwise."""
        stats = self._stats
        self._recent.add(stats, keep=math.exp(-(stats.busy + stats.rested) / REST_SHARE_SECONDS))
        self._stats = StepStats() if divisible else replace(stats, busy=0.0, rested=0.0)
        return stats if divisible else replace(stats, longest=0.0)
