"""Measure what the device of this rank does, for its governor."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol, runtime_checkable

import torch

from w2v_abx.thermal.governor.microbatch_limit import StepStats
from w2v_abx.thermal.sensors.sampler import Sampler

__all__ = ["Throttle", "WorkMeter"]

REST_SHARE_SECONDS = 30.0  # over which the share of rest is taken; shorter ones show single rests


@runtime_checkable
class Throttle(Protocol):
    """Runs an effective batch in micro-batches, and makes them smaller when asked to.

    Attributes:
        hooks: Each is called before each micro-batch; it may sleep and change the limits.
        handed: Clips of the micro-batch that was handed out last, and of its effective batch; a hook may take it away.
        size: Clips in a micro-batch now, all causes considered; None: any number.
    """

    hooks: list[Callable[[], None]]
    handed: tuple[int, int] | None

    @property
    def size(self) -> int | None: ...

    def limit(self, cause: str, clips: int | None, /) -> None:
        """Hold micro-batches at or below ``clips`` for this cause; None lifts the cause's limit."""
        ...


class WorkMeter:
    """Adds up work and rest between decisions.

    The work of a CPU, or of a simulated device, is done when a call returns. A CUDA device works on, and is timed by
    events of its own, so that the host need not wait: work counts once the device has done it.

    Attributes:
        throttle: Whose micro-batches are measured; None: batches run at once.
        undivided: Clips that run at once next, whatever the throttle; 0: it hands them out.
    """

    def __init__(self, device: torch.device, sampler: Sampler, *, alone: bool) -> None:
        """``sampler``: tells the time. ``alone``: there are no other ranks."""
        self.throttle: Throttle | None = None
        self.undivided = 0
        self._sampler, self._alone = sampler, alone
        self._cuda = device if device.type == "cuda" and sampler.plant is None else None
        self._batch = 1  # clips of the effective batch
        self._mark = self._now()
        self._pending: deque[tuple[Any, Any, int, int]] = deque()  # begin, end, clips, and those of the batch
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
        """Measure from here on: waiting for data is no work. ``clips``: see ``undivided``."""
        self._mark = self._now()
        if clips:
            self._batch = self.undivided = clips

    def end(self, wait: bool) -> None:
        """Measure the micro-batch that ended, or what came after it. ``wait``: see `measure`."""
        clips = 0
        if self.throttle is not None and self.throttle.handed is not None:
            (clips, self._batch), self.throttle.handed = self.throttle.handed, None
        ran, self.undivided = clips or self.undivided, 0
        if ran and self._sampler.plant is not None:
            self._sampler.plant.work(ran)
        began, self._mark = self._mark, self._now()
        if ran or self._alone:  # beside other ranks, most of what is no micro-batch is waiting for them
            self._pending.append((began, self._mark, clips, self._batch))
        self.measure(wait)

    def measure(self, wait: bool) -> None:
        """Add the work that is done; ``wait``: until all of it is."""
        if wait and self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        while self._pending and (self._cuda is None or self._pending[0][1].query()):
            began, ended, clips, batch = self._pending.popleft()
            seconds = ended - began if self._cuda is None else began.elapsed_time(ended) / 1000
            self._stats.add(StepStats.of_work(seconds, clips, batch))

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

    def state_dict(self) -> dict[str, Any]:
        """Return what was done and not taken yet, and of late, in plain values."""
        return {"batch": self._batch, "stats": asdict(self._stats), "recent": asdict(self._recent)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._batch = state["batch"]
        self._stats, self._recent = StepStats(**state["stats"]), StepStats(**state["recent"])

    def _now(self) -> Any:
        """Mark this moment: in seconds, or by an event that the device passes once it has done what it was given."""
        if self._cuda is None:
            return self._sampler.now()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._cuda))
        return event
