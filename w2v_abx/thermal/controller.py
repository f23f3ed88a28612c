"""Hold one run within its temperatures: measure work and rest, read the sensors, decide, rest.

Each rank's governor knows the devices of that rank. At the beginning of a step, about once per period, and at the end
of an evaluation the ranks *synchronise*: they gather the decisions of all, and all follow the strictest, so that they
rest and shrink alike, as the hottest device asks. In between, where ranks run different numbers of micro-batches and so
cannot wait for each other, each goes on by its own sensors, at no more than the duty of the hottest device of all. That
may make it rest, in one batch no longer than ``MAX_RESTS_ALONE_SECONDS``, but neither shrink nor stop: the others wait
for it in the next collective, whose time-out is ten minutes or more. A rank that should stop has all of them stop when
they synchronise next. Without another rank, every decision is one of all.

A rest ends early when a signal asks the run to stop (`w2v_abx.system.signals`). The only process gives up the step
under way, and what was before it is saved; several ranks finish it without rest, and leave together at the next.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from w2v_abx.distributed import collectives as distributed
from w2v_abx.errors import InputError
from w2v_abx.system import signals
from w2v_abx.thermal.governor import Decision, Governor
from w2v_abx.thermal.meter import WorkMeter
from w2v_abx.thermal.rank_report import RankReport, strictest
from w2v_abx.thermal.sampler import Clock, PlantSampler, ThreadSampler, WallClock
from w2v_abx.thermal.sensor import Reading, Sensor
from w2v_abx.thermal.simulated import Simulated
from w2v_abx.thermal.state import MEMORY, hottest
from w2v_abx.thermal.throttle import Throttle
from w2v_abx.thermal.timer import CudaTimer, HostTimer

__all__ = ["RestInterrupted", "ThermalController"]

MAX_RESTS_ALONE_SECONDS = 300.0  # that a rank rests without the others, in one batch: half of NCCL's time-out
MAX_REST_TOGETHER_SECONDS = 60.0  # at a time
MIN_REST_SECONDS = 1e-3
SIGNAL_CHECK_SECONDS = 1.0  # of rest between two looks for signals
MAX_STEPS_BETWEEN = 1000  # two synchronisations
MAX_READINGS_SENT = 64  # of a rank; of more, every second, third, … is sent

Record = Callable[[list[Reading], Decision, int | None, float | None], None]

log = logging.getLogger(__name__)


class RestInterrupted(Exception):
    """The run was asked to stop while the device rested inside a step."""

    def __init__(self) -> None:
        super().__init__("while the device rested; the step under way is given up")


class ThermalController:
    """See the module.

    Attributes:
        plant: The simulated device; None: time is real.
        clock: Its clock, or the machine's.
        meter: Of this rank's work and rest.
    """

    def __init__(
        self,
        sensors: Mapping[str, Sensor],
        governor: Governor,
        device: torch.device,
        period: float,
        record: Record,
        *,
        rank: int = 0,
        began: float = 0.0,
    ) -> None:
        """Start to read; a collective.

        ``sensors``: of this rank, by name. ``period``: seconds between readings. ``record`` takes the new readings of
        the device that is nearest to its limit, and the decision; and for what one of several ranks had decided by
        itself, the rank, and when. ``began``: the second that the clock goes on from, the same on all ranks. Raises
        InputError for a simulated device that is not the only one.
        """
        self.governor, self._period, self._record, self._rank = governor, period, record, rank
        self.alone = distributed.world_size() == 1
        own = {name if self.alone else f"rank {rank} {name}".strip(): sensor for name, sensor in sensors.items()}
        everyones = [name for names in distributed.gather(list(own)) for name in names]
        governor.expect(own, {*everyones} - own.keys())
        self.plant = next((sensor for sensor in own.values() if isinstance(sensor, Simulated)), None)
        if self.plant is not None and len(own) > 1:
            raise InputError("thermal.sensor: a simulated device has a time of its own, and so must be the only one.")
        self.clock: Clock = WallClock(began) if self.plant is None else self.plant
        self._sampler = (
            ThreadSampler(own, self.clock, period)
            if self.plant is None
            else PlantSampler(next(iter(own)), self.plant, period)
        )
        real = device.type == "cuda" and self.plant is None
        self.meter = WorkMeter(CudaTimer(device) if real else HostTimer(self.clock), self.plant, alone=self.alone)
        self._failing = False
        self._limit = governor.microbatch  # of all ranks
        if not own:
            governor.state.microbatch.clips = None  # which nothing here could raise again
        # Of several ranks: since they synchronised
        self._readings: list[Reading] = []
        self._decisions: list[tuple[float, Decision]] = []
        self._notes: list[str] = []
        self._stop_reason: str | None = None
        self._rested_alone = 0.0  # s, in this batch
        self._steps = self._steps_between = 0
        self._synchronised_at: float | None = None
        self._leaving = False  # a signal asks one of the ranks to stop
        self._cause = ""  # of the last decision

    def attach(self, throttle: Throttle) -> None:
        """Act before each of its micro-batches."""
        self.meter.throttle = throttle
        throttle.limit("heat", self.governor.microbatch)
        throttle.hooks.append(self.pace)

    def close(self) -> None:
        """End the thread, and leave the throttle alone."""
        throttle = self.meter.throttle
        if throttle is not None and self.pace in throttle.hooks:
            throttle.hooks.remove(self.pace)
        self._sampler.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what the governors of all ranks need to go on, as of the last time that they synchronised."""
        state = self.governor.state_dict()
        state["microbatch"]["clips"] = self._limit
        return state

    def end(self) -> None:
        """Measure the micro-batch that ended, or what came after it."""
        self.meter.end(wait=self.governor.duty < 1)  # a full-duty run never waits

    def before_batch(self, clips: int, *, stops: bool = True) -> None:
        """Rest until it is time for a batch that runs at once, outside of training. ``stops``: False: this is no place
        to stop, which is then left to the next step."""
        self._rested_alone = 0.0
        self.meter.begin()
        self.pace(training=False, stops=stops)
        self.meter.undivided = clips

    def pace(self, *, training: bool = True, stops: bool = True) -> None:
        """Decide with this rank's own readings, before a micro-batch, and rest until it is time to run it.

        Raises RestInterrupted if a signal asks the only process to stop, where that is in training. Any other work goes
        on with one rest less; those who look for signals there see to the rest.
        """
        self.end()
        heeding = training or not signals.asked()
        while True:
            readings = self._take()
            decision = self._decide(readings, together=self.alone)
            rest, stopping = decision.rest_seconds, decision.action == "stop"
            if not self.alone:
                rest = self._rest_alone(decision)
            elif stopping and not stops:
                rest = self.governor.settings.longest_rest
                self._record(self._of_hottest(readings), replace(decision, action="rest"), None, None)
            else:
                self._follow(readings, decision)
            if rest < MIN_REST_SECONDS:
                break
            if not self._rest(rest, heeding):
                if self.alone and training:
                    raise RestInterrupted
                break
            if stopping and (training or not stops):
                break  # it will, or they will, at the next step or soon
        self.meter.begin()

    def _decide(self, readings: list[Reading], *, together: bool) -> Decision:
        """Ask the governor; unless all ranks decide together, not about micro-batches."""
        stats = self.meter.take(divisible=together)
        return self.governor.decide(self.clock.now(), readings, stats)

    def _rest_alone(self, decision: Decision) -> float:
        """Return how long this rank rests by itself on this decision, and keep the decision for the others."""
        if decision.cause != self._cause:
            self._cause = decision.cause
            self._decisions.append((self.clock.now(), decision))
        rest = decision.rest_seconds
        if decision.action == "stop":  # as all ranks will when they synchronise; until then it is too hot
            self._stop_reason, self.governor.state.stopped = self._stop_reason or decision.reason, None
            rest = self.governor.settings.longest_rest
        left = MAX_RESTS_ALONE_SECONDS - self._rested_alone
        if 0 < left <= rest:
            self._note(
                f"rank {self._rank} has rested for {MAX_RESTS_ALONE_SECONDS:.0f} s in one batch, which the others wait "
                f"for, and works on although it should rest ({decision.reason})"
            )
        rest = min(rest, left)
        self._rested_alone += max(rest, 0.0)
        return rest

    def synchronise(self, *, due: bool = False, stops: bool = True) -> None:
        """Decide together with the other ranks, a collective; ``due``: at the beginning of a step, about once per
        period. ``stops``: as for `before_batch`."""
        self._steps, self._rested_alone = self._steps + 1, 0.0
        if self.alone or (due and self._steps <= self._steps_between):
            return
        first = last = None
        while True:
            readings, decision, last = self._exchange()
            first = last if first is None else first
            if stops or decision.action != "stop":
                self._follow(readings, decision)
            if decision.action != "rest" or self._leaving:
                break
            self._rest(min(decision.rest_seconds, MAX_REST_TOGETHER_SECONDS))
        self._cause = decision.cause
        seconds = math.inf if self._synchronised_at is None else (first - self._synchronised_at) / self._steps
        self._steps_between = min(MAX_STEPS_BETWEEN, int(self._period / max(seconds, 1e-9)) - 1)
        self._synchronised_at, self._steps = last, 0

    def _exchange(self) -> tuple[list[Reading], Decision, float]:
        """Return, alike on all ranks: the readings of all, what all do, and the time."""
        self.governor.state.stopped, self._stop_reason = self._stop_reason or self.governor.state.stopped, None
        decision = self._decide(self._take(), together=True)
        every, now = 1 + len(self._readings) // MAX_READINGS_SENT, self.clock.now()
        reports = RankReport(
            now=now,
            decision=decision,
            heats=self.governor.state.heats,
            readings=self._readings[::-every][::-1],
            alone=self._decisions[-MAX_READINGS_SENT:],
            notes=self._notes,
            asked=bool(signals.asked()),
        ).gather()
        self._readings, self._decisions, self._notes = [], [], []
        common = max(report.now for report in reports)
        if self.plant is not None:
            self.plant.sleep(common - now)  # it idles while it waits for the others
        self._leaving = any(report.asked for report in reports)
        others = (report.heats for rank, report in enumerate(reports) if rank != self._rank)
        self.governor.state.others = {name: heat for heats in others for name, heat in heats.items()}
        for rank, report in enumerate(reports):
            for note in report.notes if self._rank == 0 else ():
                log.warning("Thermal: %s.", note)
            for time, alone in report.alone:
                done = replace(alone, action="rest") if alone.action == "stop" else alone  # which all are yet to do
                self._record([], done, rank, time)
        readings = sorted((reading for report in reports for reading in report.readings), key=lambda one: one.time)
        decision, own = strictest(reports), self.governor.state.microbatch
        shrunk = any(report.decision.action == "shrink" for report in reports)
        if shrunk and decision.microbatch is not None and hottest(self.governor.state.heats) is not None:
            # All shrink together, and grow once each of them is cool: the smallest limit holds.
            own.clips = min(decision.microbatch, own.clips or decision.microbatch)
        return readings, decision, common

    def _follow(self, readings: list[Reading], decision: Decision) -> None:
        self._limit = decision.microbatch
        if self.meter.throttle is not None:
            self.meter.throttle.limit("heat", decision.microbatch)
        self._record(self._of_hottest(readings), decision, None, None)

    def _of_hottest(self, readings: list[Reading]) -> list[Reading]:
        """Choose the readings of the device of all ranks that is nearest to its limit."""
        name = hottest({**self.governor.state.heats, **self.governor.state.others})
        return [reading for reading in readings if name is not None and reading.device == name.removesuffix(MEMORY)]

    def _rest(self, seconds: float, heeding: bool = True) -> bool:
        """Rest; False if, ``heeding`` signals, one that asks to stop has ended it early."""
        self.meter.measure(wait=True)  # kernels still queued are work
        began, left = self.clock.now(), seconds
        while left > 0 and not (heeding and (self._leaving or signals.asked())):
            self.clock.sleep(min(left, SIGNAL_CHECK_SECONDS))
            left -= SIGNAL_CHECK_SECONDS
        self.meter.add_rest(self.clock.now() - began)
        return left <= 0

    def _take(self) -> list[Reading]:
        """Return the new readings; note when a sensor begins to fail, and when all answer again."""
        readings, error = self._sampler.take(), self._sampler.error
        if not self.alone:
            self._readings += readings
        if error is not None and not self._failing:
            self._note(f"the temperature sensor fails: {error}")
        elif error is None and self._failing and readings:
            self._note("the temperature sensor answers again" + ("" if self.alone else f" on rank {self._rank}"))
        self._failing = error is not None or (self._failing and not readings)
        return readings

    def _note(self, text: str) -> None:
        """Have the first rank log it."""
        if self.alone:
            log.warning("Thermal: %s.", text)
        else:
            self._notes.append(text)
