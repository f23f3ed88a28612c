"""Keeps one run, on one rank, within its temperatures: counts work and rest, reads, decides and rests.

Several ranks are kept together. At the beginning of a step, about once per period, and at the end of an evaluation
they *meet*: each tells what it has read, done and decided, and each feeds its governor the same, so that all decide,
rest and shrink alike. From there to the next meeting a rank goes on alone with its own readings and a fork of the
governor, which may make it rest, in one batch no longer than ``MOST_APART``, but neither shrink nor stop: the others
wait for it in the next collective, whose time-out is ten minutes or more, and ranks that hold the weights together have
to run the same number of micro-batches. A rank that should stop has all of them stop where they meet next.

A rest is broken off when a signal asks the run to stop (`w2v_abx.training.signals`). The only process gives up the step
under way, and what was before it is saved; several ranks finish it without rest, and leave together at the next.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch

from w2v_abx.distributed import collectives as distributed
from w2v_abx.errors import InputError
from w2v_abx.thermal.governor import Decision, Governor, Ran
from w2v_abx.thermal.sampler import Clock, PlantSampler, Sampler, ThreadSampler, WallClock
from w2v_abx.thermal.sensor import Reading, Sensor
from w2v_abx.thermal.simulated import Simulated
from w2v_abx.thermal.timer import CudaTimer, HostTimer, Timer, Work
from w2v_abx.training import signals
from w2v_abx.training.microbatch import MicroBatcher

__all__ = ["BrokenOff", "Keeper", "Report"]

RECENT = 30.0  # s over which the share of rest is told; shorter ones show single rests
MOST_APART = 300.0  # s that a rank rests without the others, in one batch: half of NCCL's time-out
MOST_TOGETHER = 60.0  # s that all of them rest in one piece
SHORTEST_REST = 1e-3  # s
LISTENS_EVERY = 1.0  # s of rest, for signals
MOST_STEPS = 1000  # between two meetings
SENT = 64  # readings of a rank that the others are told; of more, every second, third, …

log = logging.getLogger(__name__)


class BrokenOff(Exception):
    """The run was asked to stop while the device rested inside a step."""

    def __init__(self) -> None:
        super().__init__("while the device rested; the step under way is given up")


class Report(Protocol):
    """Is told each decision, and the readings that came with it. ``rank``: of several, the one that has taken it by
    itself, at an earlier time (s); None: all ranks together, or the only one."""

    def __call__(
        self, readings: list[Reading], decision: Decision, rank: int | None = None, time: float | None = None
    ) -> None: ...


@dataclass
class Tally:
    """Seconds of work and of rest, and the longest micro-batch that could have been smaller, with its clips and those
    of its batch."""

    busy: float = 0.0
    rested: float = 0.0
    piece: float = 0.0
    clips: int = 1
    batch: int = 1

    def work(self, seconds: float, work: Work) -> None:
        """Something was run."""
        self.busy += seconds
        if work.divisible and seconds > self.piece:
            self.piece, self.clips, self.batch = seconds, work.clips, work.batch

    def add(self, other: "Tally", fading: float = 1.0) -> None:
        """Put another after this one, of which a share is kept."""
        self.busy = fading * self.busy + other.busy
        self.rested = fading * self.rested + other.rested
        if other.piece > self.piece:
            self.piece, self.clips, self.batch = other.piece, other.clips, other.batch


class Keeper:
    """See the module.

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
        report: Report,
        *,
        rank: int = 0,
        began: float = 0.0,
    ) -> None:
        """``sensors``: of this rank, by name. ``began``: the second that the clock goes on from. All ranks make theirs
        at once. Raises InputError for a simulated device that is not the only one."""
        self.governor, self._period, self._report, self._rank = governor, period, report, rank
        self.alone = distributed.world_size() == 1
        own = {name if self.alone else f"rank {rank} {name}".strip(): sensor for name, sensor in sensors.items()}
        governor.expect(name for names in distributed.gather(list(own)) for name in names)
        self._own = list(own)
        self._fork = governor if self.alone else governor.fork(self._own)
        self.plant = next((sensor for sensor in own.values() if isinstance(sensor, Simulated)), None)
        if self.plant is not None and len(own) > 1:
            raise InputError("thermal.sensor: a simulated device has a time of its own, and so must be the only one.")
        self.clock: Clock = WallClock(began) if self.plant is None else self.plant
        self._sampler: Sampler = (
            ThreadSampler(own, self.clock, period)
            if self.plant is None
            else PlantSampler(self._own[0], self.plant, period)
        )
        real = device.type == "cuda" and self.plant is None
        self._timer: Timer = CudaTimer(device) if real else HostTimer(self.clock)
        self._failing = False
        self.batcher: MicroBatcher | None = None
        self._running: Work | None = None
        self._total = 1
        self._new, self._apart = Tally(), Tally()  # since the last decision, and since the last meeting
        self._waited_for = 0.0  # s of rest in this batch, which the others wait for
        self._unsent: list[Reading] = []
        self._notes: list[str] = []  # for the first rank to log
        self._decisions: list[dict[str, Any]] = []  # that this rank has taken by itself since the last meeting
        self._cause = ""  # of the last decision
        self._stopped: str | None = None  # why this rank should have stopped since the last meeting
        self._leaving = False  # a signal asks one of the ranks to stop
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
        self._timer.begin()
        if clips is not None:
            self._total = clips
            self._running = Work(clips, clips, divisible=False)

    def account(self) -> None:
        """Book the micro-batch that ended, or what came after it."""
        if self.batcher is not None and self.batcher.handed is not None:
            (clips, self._total), self.batcher.handed = self.batcher.handed, None
            self._running = Work(clips, self._total, divisible=True)
        if self._running is not None and self.plant is not None:
            self.plant.work(self._running.clips)
        self._timer.lap(self._running)
        self._running = None
        self._book(wait=self._fork.duty < 1)  # a full-duty run never waits

    def _book(self, wait: bool) -> None:
        for seconds, work in self._timer.take(wait):
            if work is not None:
                self._new.work(seconds, work)
            elif self.alone:  # the optimiser's work; with other ranks, most of it is waiting for them
                self._new.busy += seconds

    # Decisions

    def batch(self, clips: int, *, stops: bool = True) -> None:
        """Before a batch whose clips run all at once, outside of training: rest until it is time for it. ``stops``:
        False: this is no place to stop, which is then left to the next step."""
        self._waited_for = 0.0
        self.begin()
        self.act(training=False, stops=stops)
        self._running = Work(clips, clips, divisible=False) if clips else None

    def act(self, *, training: bool = True, stops: bool = True) -> None:
        """Before a micro-batch: decide with this rank's own readings, and rest until it is time to run.

        Raises BrokenOff if a signal asks the only process to stop, where that is in training. Any other work goes on
        with one rest less; those who look for signals there see to the rest.
        """
        self.account()
        heeding = training or not signals.asked()
        while True:
            readings, new = self._take(), self._settle()
            divisible = self.alone and new.piece > 0
            ran = Ran(new.busy, new.rested, new.clips, new.batch, new.piece, divisible)
            decision = self._fork.decide(self.clock.now(), readings, ran)
            rest, stopping = decision.rest_seconds, decision.action == "stop"
            if not self.alone:
                rest = self._apart_rest(decision)
            elif stopping and not stops:
                rest = self.governor.longest_rest
                self._report(readings, replace(decision, action="rest"))
            else:
                self._follow(readings, decision)
            if rest < SHORTEST_REST:
                break
            if not self._rest(rest, heeding):
                if self.alone and training:
                    raise BrokenOff
                break
            if stopping and (training or not stops):
                break  # it will, or they will, at the next step or soon
        self._timer.begin()

    def _apart_rest(self, decision: Decision) -> float:
        """How long a rank rests by itself on this decision, which the others are told when they meet."""
        if decision.cause != self._cause:
            self._cause = decision.cause
            self._decisions.append({"time": self.clock.now(), "decision": asdict(decision)})
        rest = decision.rest_seconds
        if decision.action == "stop":  # as all ranks will when they meet; until then it is too hot
            self._stopped, self._fork.state.stopped = self._stopped or decision.reason, None
            rest = self.governor.longest_rest
        left = MOST_APART - self._waited_for
        if 0 < left <= rest:
            self._note(
                f"rank {self._rank} has rested for {MOST_APART:.0f} s in one batch, which the others wait for, and "
                f"works on although it should rest ({decision.reason})"
            )
        rest = min(rest, left)
        self._waited_for += max(rest, 0.0)
        return rest

    def meet(self, *, at_once: bool = True, stops: bool = True) -> None:
        """Decide together with the other ranks; unless ``at_once``, at the beginning of a step, about once per period.
        ``stops``: as for `batch`."""
        self._steps, self._waited_for = self._steps + 1, 0.0
        if self.alone or (not at_once and self._steps <= self._next):
            return
        came = None
        while True:
            readings, common, ran = self._exchange()
            came = common if came is None else came
            decision = self.governor.decide(common, readings, ran)
            if stops or decision.action != "stop":
                self._follow(readings, decision)
            if decision.action != "rest" or self._leaving:
                break
            self._rest(min(decision.rest_seconds, MOST_TOGETHER))
        self._fork, self._cause = self.governor.fork(self._own), decision.cause
        seconds = math.inf if self._left_at is None else (came - self._left_at) / self._steps
        self._next = min(MOST_STEPS, int(self._period / max(seconds, 1e-9)) - 1)
        self._left_at, self._steps = common, 0

    def _exchange(self) -> tuple[list[Reading], float, Ran]:
        """Of all ranks, alike on each: the readings since they last met, the time, and what was done by the one that
        owes the most rest."""
        self._take()
        self._settle()
        now, thin = self.clock.now(), 1 + len(self._unsent) // SENT
        told = {
            **asdict(self._apart),
            "now": now,
            "readings": [asdict(reading) for reading in self._unsent[::-thin][::-1]],
            "notes": self._notes,
            "decisions": self._decisions[-SENT:],
            "stopped": self._stopped,
            "asked": signals.asked(),
        }
        reports = distributed.gather(told)
        self._unsent, self._notes, self._decisions, self._stopped, self._apart = [], [], [], None, Tally()
        common = max(report["now"] for report in reports)
        if self.plant is not None:
            self.plant.sleep(common - now)  # it idles while it waits for the others
        self._hear(reports, common)
        readings = [_reading(plain, common - report["now"]) for report in reports for plain in report["readings"]]
        hardest = max(reports, key=lambda report: self.governor.owed(report["busy"], report["rested"]))
        done = {key: hardest[key] for key in ("busy", "rested", "clips", "batch", "piece")}
        ran = Ran(**done, divisible=done["piece"] > 0)
        return sorted(readings, key=lambda reading: reading.time), common, ran

    def _hear(self, reports: list[dict[str, Any]], common: float) -> None:
        """What happened to the ranks while they were by themselves."""
        self._leaving = any(report["asked"] for report in reports)
        state = self.governor.state
        state.stopped = next((report["stopped"] for report in reports if report["stopped"]), state.stopped)
        for rank, report in enumerate(reports):
            for note in report["notes"] if self._rank == 0 else ():
                log.warning("Thermal: %s.", note)
            for told in report["decisions"]:
                decision = Decision(**told["decision"])
                if decision.action == "stop":  # which all are yet to do
                    decision = replace(decision, action="rest")
                self._report([], decision, rank, told["time"] + common - report["now"])

    def _follow(self, readings: list[Reading], decision: Decision) -> None:
        if self.batcher is not None:
            self.batcher.limit("heat", decision.microbatch)
        self._report(readings, decision)

    def _rest(self, seconds: float, heeding: bool = True) -> bool:
        """Whether it was rested to the end: not if, ``heeding`` signals, one asks to stop."""
        self._book(wait=True)  # kernels still queued are work
        began, left = self.clock.now(), seconds
        while left > 0 and not (heeding and (self._leaving or signals.asked())):
            self.clock.sleep(min(left, LISTENS_EVERY))
            left -= LISTENS_EVERY
        self._new.rested += self.clock.now() - began
        return left <= 0

    def _settle(self) -> Tally:
        """What was done since the last decision."""
        new, self._new = self._new, Tally()
        self._apart.add(new)
        self._recent.add(new, math.exp(-(new.busy + new.rested) / RECENT))
        return new

    def _take(self) -> list[Reading]:
        """The new readings. Tells when a sensor begins to fail, and when all answer again."""
        readings, error = self._sampler.take(), self._sampler.error
        if not self.alone:
            self._unsent += readings
        if error is not None and not self._failing:
            self._note(f"the temperature sensor fails: {error}")
        elif error is None and self._failing and readings:
            self._note("the temperature sensor answers again" + ("" if self.alone else f" on rank {self._rank}"))
        self._failing = error is not None or (self._failing and not readings)
        return readings

    def _note(self, text: str) -> None:
        """Have the first rank log it, which is the one that is listened to."""
        if self.alone:
            log.warning("Thermal: %s.", text)
        else:
            self._notes.append(text)


def _reading(plain: dict[str, Any], later: float) -> Reading:
    """A reading of another rank, on the clock of all."""
    throttle = None if plain["throttle"] is None else tuple(plain["throttle"])
    return Reading(**{**plain, "time": plain["time"] + later, "throttle": throttle})
