"""Keeps one run, on one rank, within its temperatures: counts work and rest, reads, decides and rests.

Several ranks are kept together. At the beginning of a step, about once per period, they *meet*: each tells what it has
read and done, and each feeds its governor the same, so that all decide, rest and shrink alike. From there to the next
meeting a rank goes on alone with its own readings and a fork of the governor, which may make it rest, no longer than
``MOST_APART`` in all, but neither shrink nor stop: the others wait for it in the next collective, whose time-out is ten
minutes or more, and ranks that hold the weights together have to run the same number of micro-batches.
"""

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from w2v_abx import distributed
from w2v_abx.errors import InputError
from w2v_abx.microbatch import MicroBatcher
from w2v_abx.thermal.governor import Decision, Governor, Ran
from w2v_abx.thermal.sampler import Clock, PlantSampler, Sampler, ThreadSampler, WallClock
from w2v_abx.thermal.sensor import Reading, Sensor
from w2v_abx.thermal.simulated import Simulated

__all__ = ["Keeper"]

RECENT = 30.0  # s over which the share of rest is told; shorter ones show single rests
MOST_APART = 300.0  # s that a rank rests without the others, at most: half of NCCL's time-out
MOST_TOGETHER = 60.0  # s that all of them rest in one piece
MOST_STEPS = 1000  # between two meetings
SENT = 64  # readings of a rank that the others are told; of more, every second, third, …

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """Seconds of work and of rest, and the longest micro-batch with its clips."""

    busy: float = 0.0
    rested: float = 0.0
    piece: float = 0.0
    clips: int = 1

    def work(self, seconds: float, clips: int) -> None:
        """A micro-batch was run."""
        self.busy += seconds
        if seconds > self.piece:
            self.piece, self.clips = seconds, clips

    def add(self, other: "Tally", fading: float = 1.0) -> None:
        """Put another after this one, of which a share is kept."""
        self.busy = fading * self.busy + other.busy
        self.rested = fading * self.rested + other.rested
        if other.piece > self.piece:
            self.piece, self.clips = other.piece, other.clips


class Keeper:
    """See the module. ``report(readings, decision)`` is called with each decision; of all ranks, where there are more.

    Attributes:
        batcher: whose micro-batches shrink; None: there is none.
        plant: the simulated device; None: time is real.
        clock: its, or the machine's.
    """

    def __init__(
        self,
        sensors: Mapping[str, Sensor],
        governor: Governor,
        device: torch.device,
        period: float,
        report: Callable[[list[Reading], Decision], None],
        *,
        rank: int = 0,
        began: float = 0.0,
    ) -> None:
        """``sensors``: of this rank, by name. ``began``: the second that the clock goes on from. All ranks make theirs
        at once. Raises InputError for a simulated device that is not the only one."""
        self.governor, self._device, self._period, self._report = governor, device, period, report
        self.alone = distributed.world_size() == 1
        own = {name if self.alone else f"rank {rank} {name}".strip(): sensor for name, sensor in sensors.items()}
        governor.expect(name for names in distributed.gather(list(own)) for name in names)
        self._own, self._fork = list(own), governor
        self.plant = next((sensor for sensor in own.values() if isinstance(sensor, Simulated)), None)
        if self.plant is not None and len(own) > 1:
            raise InputError("thermal.sensor: a simulated device has a time of its own, and so must be the only one.")
        self.clock: Clock = WallClock(began) if self.plant is None else self.plant
        self._sampler: Sampler = (
            ThreadSampler(own, self.clock, period)
            if self.plant is None
            else PlantSampler(self._own[0], self.plant, period)
        )
        self._failing = False
        self.batcher: MicroBatcher | None = None
        self._clips = self._total = 1
        self._ran = False
        self._mark = self.clock.now()
        self._new, self._apart = Tally(), Tally()  # since the last decision, and since the last meeting
        self._unsent: list[Reading] = []
        self._steps = self._next = 0  # since the last meeting, and without one
        self._left_at: float | None = None
        self._recent = Tally()

    def keep(self, batcher: MicroBatcher) -> None:
        """Act before each of its micro-batches."""
        self.batcher = batcher
        batcher.limit("heat", self.governor.microbatch)
        batcher.hooks.append(self.act)

    def close(self) -> None:
        """End the thread, and leave the batcher alone."""
        if self.batcher is not None and self.act in self.batcher.hooks:
            self.batcher.hooks.remove(self.act)
        self._sampler.close()

    @property
    def microbatch(self) -> int:
        """Clips that would run at once now."""
        size = None if self.batcher is None else self.batcher.size
        return self._total if size is None else min(size, self._total)

    @property
    def rest_share(self) -> float:
        """Of the last half minute or so."""
        return self._recent.rested / max(self._recent.busy + self._recent.rested, 1e-9)

    # Work

    def begin(self, clips: int | None = None) -> None:
        """Work counts from here: waiting for data is not the micro-batches' doing. ``clips`` run at once where no
        batcher hands them out."""
        self._mark = self.clock.now()
        if clips is not None:
            self._clips = self._total = clips
            self._ran = True

    def account(self) -> None:
        """Book the micro-batch that ended, or what came after it."""
        if self.batcher is not None and self.batcher.handed is not None:
            (self._clips, self._total), self.batcher.handed = self.batcher.handed, None
            self._ran = True
        if self._ran and self.plant is not None:
            self.plant.work(self._clips)
        elif self._device.type == "cuda" and self.governor.duty < 1:
            torch.cuda.synchronize(self._device)  # kernels still queued are work, not rest; a full-duty run never waits
        seconds, self._mark = self.clock.now() - self._mark, self.clock.now()
        if self._ran:
            self._new.work(seconds, self._clips)
        elif self.alone:  # the optimiser's work; with other ranks, most of it is waiting for them
            self._new.busy += seconds
        self._ran = False

    # Decisions

    def act(self) -> None:
        """Before a micro-batch: decide with this rank's own readings, and rest until it is time to run."""
        self.account()
        while True:
            readings, new = self._take(), self._settle()
            ran = Ran(new.busy, new.rested, self._clips, self._total, new.piece)
            decision = self._fork.decide(self.clock.now(), readings, ran)
            rest = decision.rest_seconds
            if self.alone:
                self._follow(readings, decision)
            else:
                if decision.action == "stop":  # all ranks will agree on that when they meet; until then it is too hot
                    rest = self.governor.longest_rest
                rest = min(rest, MOST_APART - self._apart.rested)
            if rest <= 0:
                break
            self._rest(rest)
        self._mark = self.clock.now()

    def meet(self) -> None:
        """At the beginning of a step: decide together with the other ranks, about once per period."""
        self._steps += 1
        if self.alone or self._steps <= self._next:
            return
        came = None
        while True:
            readings, common, ran = self._exchange()
            came = common if came is None else came
            decision = self.governor.decide(common, readings, ran)
            self._follow(readings, decision)
            if decision.action != "rest":
                break
            self._rest(min(decision.rest_seconds, MOST_TOGETHER))
        self._fork = self.governor.fork(self._own)
        seconds = math.inf if self._left_at is None else (came - self._left_at) / self._steps
        self._next = min(MOST_STEPS, int(self._period / max(seconds, 1e-9)) - 1)
        self._left_at, self._steps = common, 0

    def _exchange(self) -> tuple[list[Reading], float, Ran]:
        """Of all ranks, alike on each: the readings since they last met, the time, and what was done by the one that
        owes the most rest."""
        self._take()
        self._settle()
        now, thin = self.clock.now(), 1 + len(self._unsent) // SENT
        told = [asdict(reading) for reading in self._unsent[::-thin][::-1]]
        reports = distributed.gather({**asdict(self._apart), "now": now, "batch": self._total, "readings": told})
        self._unsent, self._apart = [], Tally()
        common = max(report["now"] for report in reports)
        if self.plant is not None:
            self.plant.sleep(common - now)  # it idles while it waits for the others
        readings = [_reading(plain, common - report["now"]) for report in reports for plain in report["readings"]]
        hardest = max(reports, key=lambda report: self.governor.owed(report["busy"], report["rested"]))
        ran = Ran(*(hardest[key] for key in ("busy", "rested", "clips", "batch", "piece")))
        return sorted(readings, key=lambda reading: reading.time), common, ran

    def _follow(self, readings: list[Reading], decision: Decision) -> None:
        if self.batcher is not None:
            self.batcher.limit("heat", decision.microbatch)
        self._report(readings, decision)

    def _rest(self, seconds: float) -> None:
        began = self.clock.now()
        self.clock.sleep(seconds)
        self._new.rested += self.clock.now() - began

    def _settle(self) -> Tally:
        """What was done since the last decision."""
        new, self._new = self._new, Tally()
        self._apart.add(new)
        self._recent.add(new, math.exp(-(new.busy + new.rested) / RECENT))
        return new

    def _take(self) -> list[Reading]:
        """The new readings. Warns once when a sensor starts to fail, and once when all answer again."""
        readings, error = self._sampler.take(), self._sampler.error
        if not self.alone:
            self._unsent += readings
        if error is not None and not self._failing:
            warnings.warn(f"The temperature sensor fails: {error}.", stacklevel=2)
        elif error is None and self._failing and readings:
            log.warning("The temperature sensor answers again.")
        self._failing = error is not None or (self._failing and not readings)
        return readings


def _reading(plain: dict[str, Any], later: float) -> Reading:
    """A reading of another rank, on the clock of all."""
    throttle = None if plain["throttle"] is None else tuple(plain["throttle"])
    return Reading(**{**plain, "time": plain["time"] + later, "throttle": throttle})
