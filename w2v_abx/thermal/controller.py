"""Hold one run within its temperatures: measure work and rest, read the sensors, decide, rest.

Each rank's governor knows the devices of that rank. At the beginning of a step and at the end of an evaluation the
ranks *synchronise*: they gather the decisions of all, and all follow the strictest, so that they rest and shrink alike,
as the hottest device asks. In between, where ranks run different numbers of micro-batches and so cannot wait for each
other, each goes on by its own sensors, at no more than the duty of the hottest device of all. That may make it rest, in
one batch no longer than ``MAX_RESTS_ALONE_SECONDS``, but neither shrink nor stop: the others wait for it in the next
collective, whose time-out is ten minutes or more. A rank that should stop has all of them stop when they synchronise
next. Without another rank, every decision is one of all.

A rest ends early when a signal asks the run to stop (`w2v_abx.system.signals`). The only process gives up the step
under way, and what was before it is saved; several ranks finish it without rest, and leave together at the next.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from w2v_abx.distributed import collectives as distributed
from w2v_abx.system import signals
from w2v_abx.thermal.governor.decision import Decision, strictest
from w2v_abx.thermal.governor.governor import Governor
from w2v_abx.thermal.governor.heat import MEMORY, Heat, hottest
from w2v_abx.thermal.sensors.sampler import Sampler
from w2v_abx.thermal.sensors.sensor import Reading, Sensor
from w2v_abx.thermal.work import Throttle, WorkMeter

__all__ = ["ThermalController"]

MAX_RESTS_ALONE_SECONDS = 300.0  # that a rank rests without the others, in one batch: half of NCCL's time-out
MAX_REST_TOGETHER_SECONDS = 60.0  # at a time
MIN_REST_SECONDS = 1e-3
SIGNAL_CHECK_SECONDS = 1.0  # of rest between two looks for signals

Record = Callable[[list[Reading], Decision, int | None, float | None], None]

log = logging.getLogger(__name__)


class ThermalController:
    """Rests, and limits micro-batches, as the governor decides.

    Attributes:
        sampler: Reads this rank's sensors, and tells the time.
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
        self.governor, self._record, self._rank = governor, record, rank
        self.alone = distributed.world_size() == 1
        own = {name if self.alone else f"rank {rank} {name}".strip(): sensor for name, sensor in sensors.items()}
        everyones = [name for names in distributed.gather(list(own)) for name in names]
        governor.expect(own, {*everyones} - own.keys())
        if not own:
            governor.microbatches.clips = None  # which nothing here could raise again
        self.sampler = Sampler(own, period, began)
        self.meter = WorkMeter(device, self.sampler, alone=self.alone)
        self._failing = False
        self._limit = governor.microbatch  # of all ranks
        self._cause = ""  # of the last decision
        # Of several ranks:
        self._unsent: dict[str, list[Any]] = {"readings": [], "alone": [], "notes": []}  # since they synchronised
        self._stop_reason: str | None = None
        self._rested_alone = 0.0  # s, in this batch
        self._leaving = False  # a signal asks one of the ranks to stop

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
        self.sampler.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what the governors of all ranks need to go on, as of the last time that they synchronised; and what
        that of a simulated device needs to go on as though nothing had happened."""
        state = self.governor.state_dict()
        state["microbatch"]["clips"] = self._limit
        return {"governor": state, "due": self.sampler.due, "meter": self.meter.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict` on a simulated device that was left in the very state it is in."""
        self.sampler.due = state["due"]
        self.meter.load_state_dict(state["meter"])

    def end(self) -> None:
        """Measure the micro-batch that ended, or what came after it."""
        self.meter.end(wait=self.governor.duty < 1)  # a full-duty run never waits

    def before_step(self, clips: int) -> None:
        """Synchronise; and where there are no micro-batches, rest until it is time for the batch of ``clips``."""
        self.meter.begin()
        self.synchronise()
        if self.meter.throttle is None:
            self.pace()
        self.meter.begin(0 if self.meter.throttle is not None else clips)

    def before_batch(self, clips: int, *, stops: bool = True) -> None:
        """Rest until it is time for a batch that runs at once, outside of training. ``stops``: False: this is no place
        to stop, which is then left to the next step."""
        self._rested_alone = 0.0
        self.meter.begin()
        self.pace(training=False, stops=stops)
        self.meter.undivided = clips

    def pace(self, *, training: bool = True, stops: bool = True) -> None:
        """Decide with this rank's own readings, before a micro-batch, and rest until it is time to run it.

        Raises InterruptedError if a signal asks the only process to stop, where that is in training. Any other work
        goes on with one rest less; those who look for signals there see to the rest.
        """
        self.end()
        heeding = training or not signals.asked()
        while True:
            readings, decision = self._decide(together=self.alone)
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
                    raise InterruptedError("while the device rested; the step under way is given up")
                break
            if stopping and (training or not stops):
                break  # it will, or they will, at the next step or soon
        self.meter.begin()

    def synchronise(self, *, stops: bool = True) -> None:
        """Decide together with the other ranks, which wait for those that have rested more; a collective. ``stops``: as
        for `before_batch`."""
        self.end()
        self._rested_alone = 0.0
        while not self.alone:
            readings, decision = self._exchange()
            self._cause = decision.cause
            if stops or decision.action != "stop":
                self._follow(readings, decision)
            if decision.action != "rest" or self._leaving:
                break
            self._rest(min(decision.rest_seconds, MAX_REST_TOGETHER_SECONDS))

    def _exchange(self) -> tuple[list[Reading], Decision]:
        """Return, alike on all ranks, the readings of all, and what all do."""
        governor = self.governor
        governor.stopped, self._stop_reason = self._stop_reason or governor.stopped, None
        _, decision = self._decide(together=True)
        now = self.sampler.now()
        report = {
            "now": now,  # real clocks go alike on all ranks; simulated ones are set to one time here
            "decision": asdict(decision),
            "heats": {name: asdict(heat) for name, heat in governor.heats.items()},
            "asked": bool(signals.asked()),
        }
        reports = distributed.gather(report | self._unsent)
        self._unsent = {name: [] for name in self._unsent}
        if self.sampler.plant is not None:
            self.sampler.sleep(max(report["now"] for report in reports) - now)  # it idles while it waits for the others
        self._leaving = any(report["asked"] for report in reports)
        heats = [{name: Heat(**heat) for name, heat in report["heats"].items()} for report in reports]
        governor.others = {
            name: heat for rank, of in enumerate(heats) if rank != self._rank for name, heat in of.items()
        }
        for rank, report in enumerate(reports):
            for note in report["notes"] if self._rank == 0 else ():
                log.warning("Thermal: %s.", note)
            for time, alone in report["alone"]:
                self._record([], Decision(**alone), rank, time)
        decisions = [Decision(**report["decision"]) for report in reports]
        decision = strictest(decisions, [min((heat.duty for heat in of.values()), default=1.0) for of in heats])
        clips, shrunk = decision.microbatch, any(one.action == "shrink" for one in decisions)
        if shrunk and clips is not None and hottest(governor.heats) is not None:
            # All shrink together, and grow once each of them is cool: the smallest limit holds.
            governor.microbatches.clips = min(clips, governor.microbatch or clips)
        readings = [Reading(**reading) for report in reports for reading in report["readings"]]
        return sorted(readings, key=lambda reading: reading.time), decision

    def _decide(self, *, together: bool) -> tuple[list[Reading], Decision]:
        """Return the new readings, and what the governor makes of them; unless all ranks decide together, not about
        micro-batches. Note when a sensor begins to fail, and when all answer again."""
        readings, error = self.sampler.take(), self.sampler.error
        if not self.alone:
            self._unsent["readings"] += map(asdict, readings)
        if error is not None and not self._failing:
            self._note(f"the temperature sensor fails: {error}")
        elif error is None and self._failing and readings:
            self._note("the temperature sensor answers again" + ("" if self.alone else f" on rank {self._rank}"))
        self._failing = error is not None or (self._failing and not readings)
        return readings, self.governor.decide(self.sampler.now(), readings, self.meter.take(divisible=together))

    def _rest_alone(self, decision: Decision) -> float:
        """Return how long this rank rests by itself on this decision, and keep the decision for the others."""
        if decision.action == "stop":  # as all ranks will when they synchronise; until then it is too hot
            self._stop_reason, self.governor.stopped = self._stop_reason or decision.reason, None
            decision = replace(decision, action="rest", rest_seconds=self.governor.settings.longest_rest)
        if decision.cause != self._cause:
            self._cause = decision.cause
            self._unsent["alone"].append((self.sampler.now(), asdict(decision)))
        left = MAX_RESTS_ALONE_SECONDS - self._rested_alone
        if 0 < left <= decision.rest_seconds:
            self._note(
                f"rank {self._rank} has rested for {MAX_RESTS_ALONE_SECONDS:.0f} s in one batch, which the others wait "
                f"for, and works on although it should rest ({decision.reason})"
            )
        rest = min(decision.rest_seconds, left)
        self._rested_alone += max(rest, 0.0)
        return rest

    def _follow(self, readings: list[Reading], decision: Decision) -> None:
        self._limit = decision.microbatch
        if self.meter.throttle is not None:
            self.meter.throttle.limit("heat", decision.microbatch)
        self._record(self._of_hottest(readings), decision, None, None)

    def _of_hottest(self, readings: list[Reading]) -> list[Reading]:
        """Choose the readings of the device of all ranks that is nearest to its limit."""
        name = hottest({**self.governor.heats, **self.governor.others})
        return [reading for reading in readings if name is not None and reading.device == name.removesuffix(MEMORY)]

    def _rest(self, seconds: float, heeding: bool = True) -> bool:
        """Rest; False if, ``heeding`` signals, one that asks to stop has ended it early."""
        self.meter.measure(wait=True)  # kernels still queued are work
        began, left = self.sampler.now(), seconds
        while left > 0 and not (heeding and (self._leaving or signals.asked())):
            self.sampler.sleep(min(left, SIGNAL_CHECK_SECONDS))
            left -= SIGNAL_CHECK_SECONDS
        self.meter.add_rest(self.sampler.now() - began)
        return left <= 0

    def _note(self, text: str) -> None:
        """Have the first rank log it."""
        if self.alone:
            log.warning("Thermal: %s.", text)
        else:
            self._unsent["notes"].append(text)
