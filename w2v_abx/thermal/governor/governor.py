"""Decide from readings and time alone how hard a device may work: no clock, no sleep, no device in here.

Two actuators: the *duty* (share of time that the device works, the rest being rest) and the *micro-batch*. Each
temperature, of each device's core and memory, allows a duty (:mod:`w2v_abx.thermal.governor.heat`); the smallest holds.
Micro-batches shrink when one of them alone would heat the device by more than the allowed ripple, when it would end
beyond the limit, when readings swing, or when the lowest duty is not enough; they grow back after the device stayed
cool (:mod:`w2v_abx.thermal.governor.microbatch_limit`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from w2v_abx.thermal.governor.decision import Cause, Decision
from w2v_abx.thermal.governor.heat import MEMORY, Heat, hottest
from w2v_abx.thermal.governor.microbatch_limit import MIN_DIVIDED_SECONDS, RIPPLE_CELSIUS, MicroBatchLimit, StepStats
from w2v_abx.thermal.governor.settings import GovernorSettings
from w2v_abx.thermal.sensors.sensor import Reading

__all__ = ["Governor"]

MIN_REST_SECONDS = 0.05  # shorter debts are carried over
MAX_BRAKE_SECONDS = 1.0  # of rest between two looks at a temperature that nears its limit
MAX_DUTY_LEAD = 0.1  # of any temperature's duty over the lowest, which holds
HARMLESS_SWING_CELSIUS = 5.0  # below the target, from where on a swing does no harm
SHUTDOWN_MARGIN_CELSIUS = 2.0  # the last moment to save anything


class Governor:
    """Decides for the devices of one process. Temperatures are °C, times seconds on the caller's clock.

    Attributes:
        heats: Temperatures of this process's devices and, by their name with `MEMORY`, of their memories.
        others: Those of other ranks' devices as they last shared them, whose duties hold here, too.
        microbatches: How many clips may run at once.
        stopped: Why the run has to stop; None: it does not.
    """

    def __init__(self, settings: GovernorSettings | None = None) -> None:
        self.settings = settings or GovernorSettings()
        self.heats: dict[str, Heat] = {}
        self.others: dict[str, Heat] = {}
        self.microbatches = MicroBatchLimit()
        self.stopped: str | None = None
        self._devices: list[str] | None = None  # that are expected to be read; None: whatever comes
        self._safe_duty = 1.0
        self._busy = self._rested = 0.0  # s not yet settled
        self._braked, self._braking = 0.0, False  # s of rest that the sensor has not shown yet, and whether more comes
        self._began_at: float | None = None
        self._hot_since: float | None = None
        self._cool_since: float | None = None
        self._strained_since: float | None = None  # at the lowest duty, and still not cool

    @property
    def duty(self) -> float:
        """The share of time that may be work."""
        return min((heat.duty for heat in (*self.heats.values(), *self.others.values())), default=1.0)

    @property
    def microbatch(self) -> int | None:
        """Clips that may run at once; None: any number."""
        return self.microbatches.clips

    def expect(self, devices: Iterable[str], others: Iterable[str] = ()) -> None:
        """Expect readings of these devices and of no others, so that one that never comes is missed, too; ``others``:
        the devices of other ranks."""
        self._devices, known = sorted(devices), {**self.others, **self.heats}
        self.heats, self.others = (
            {name: heat for name, heat in known.items() if name.removesuffix(MEMORY) in names}
            for names in (self._devices, {*others})
        )

    def decide(self, time: float, readings: Sequence[Reading], stats: StepStats) -> Decision:
        """Decide what to do now. ``readings`` and ``stats``: of the time since the last decision, readings oldest first
        and often none.

        After ``rest``, rest for ``rest_seconds`` and ask again; after ``run`` and ``shrink``, run a micro-batch.
        """
        self._began_at = time if self._began_at is None else self._began_at
        self._busy += stats.busy
        self._rested += stats.rested
        self._braked *= math.exp(-(stats.busy + stats.rested) / max(self.settings.lookahead, 1e-9))
        self._braked, self._braking = self._braked + stats.rested * self._braking, False
        for reading in readings:
            if reading.time <= time:  # one from the future would count as fresh until then: it is as good as none
                self._learn(reading)
        silence, silent = self._silence(time)
        self.stopped = self.stopped or self._why_stop(time, silence)
        if self.stopped is not None:
            return Decision("stop", self.microbatch, 0.0, self.stopped, "stop")
        if silence > self.settings.silent_after:
            return self._blind(time, silence, silent)
        if hottest(self.heats) is None:
            return self._work("waits for the first reading", "wait")
        return self._governed(time, stats)

    def _learn(self, reading: Reading) -> None:
        """Learn from a reading of a device's core and memory."""
        settings, duty = self.settings, self.duty
        core, memory = self.heats.setdefault(reading.device, Heat()), reading.device + MEMORY
        if core.read_at is None and reading.slowdown not in {None, core.threshold}:
            core.threshold = None  # of another card, that trained before the run was resumed
        core.shutdown, core.throttled = reading.shutdown, bool(reading.throttled)
        if core.throttled and core.threshold is None:
            core.threshold = reading.temperature if reading.slowdown is None else reading.slowdown
        limit = settings.core_limit(reading.slowdown, core.threshold)
        core.learn(reading.time, reading.temperature, limit, settings.headroom, duty)
        of_memory = settings.limit_of_memory(reading.memory_slowdown)
        if reading.memory is not None and of_memory is not None:
            heat = self.heats.setdefault(memory, Heat())
            heat.learn(reading.time, reading.memory, of_memory, settings.headroom, duty)
        elif memory in self.heats and self.heats[memory].read_at is None:
            del self.heats[memory]  # this card has none that is governed; the one that trained before had
        for heat in self.heats.values():
            heat.duty = min(1.0, max(settings.lowest_duty, heat.duty))
        highest = self.duty + MAX_DUTY_LEAD
        for heat in self.heats.values():
            heat.duty = min(heat.duty, highest)
        self._watch(reading.time)

    def _watch(self, time: float) -> None:
        """Note since when the devices are hot, cool, or at the lowest duty and still not cool."""
        excess = max(heat.excess for heat in self.heats.values() if heat.excess is not None)
        if any(heat.throttled for heat in self.heats.values()):
            excess = max(excess, 0.0)
        cool = excess <= self.settings.hysteresis - self.settings.headroom
        strained = not cool and self.duty <= self.settings.lowest_duty
        self._hot_since = _since(self._hot_since, time, excess >= 0)
        self._cool_since = _since(self._cool_since, time, cool)
        self._strained_since = _since(self._strained_since, time, strained)
        if cool:
            self._safe_duty = self.duty

    def _silence(self, time: float) -> tuple[float, str]:
        """Return the seconds since the last reading of the device, or memory, that was not read for longest, and its
        name; 0 where none is expected."""
        last = {name: heat.read_at for name, heat in self.heats.items() if heat.read_at is not None}
        expected = ([] if last else [""]) if self._devices is None else self._devices
        last |= {name: self._began_at or 0.0 for name in expected if name not in last}
        name = min(last, key=lambda name: last[name], default="")
        return time - last.get(name, time), name

    def _why_stop(self, time: float, silence: float) -> str | None:
        """Return why the run has to stop; None: it does not."""
        settings = self.settings
        for name, heat in self.heats.items():
            if heat.temperature is None or heat.shutdown is None:
                continue
            if heat.temperature >= heat.shutdown - SHUTDOWN_MARGIN_CELSIUS:
                return f"{_named(name)}{heat.temperature:.1f} °C, and the device shuts down at {heat.shutdown:.1f} °C"
        if self._hot_since is not None and time - self._hot_since > settings.patience:
            return f"{self._seen()} after {time - self._hot_since:.0f} s of rest: resting does not help"
        blind = silence - settings.silent_after - settings.hold
        if blind > (0 if settings.when_silent == "stop" else settings.patience):
            return f"no reading for {silence:.0f} s"
        return None

    def _blind(self, time: float, silence: float, silent: str) -> Decision:
        """Decide while a sensor is silent."""
        for heat in self.heats.values():
            heat.duty = max(self.settings.lowest_duty, min(heat.duty, heat.steady(self._safe_duty)))
        known = silent in self.heats and all(heat.known for heat in self.heats.values())
        safe = known and self._rest_needed(time) <= 0
        seen = f"{_named(silent)}no reading for {silence:.0f} s"
        if safe and silence <= self.settings.silent_after + self.settings.hold:
            return self._work(f"{seen}: holds the last safe duty", "held")
        reason = f"{seen}: rests until the sensor answers"
        return Decision("rest", self.microbatch, self.settings.longest_rest, reason, "blind")

    def _governed(self, time: float, stats: StepStats) -> Decision:
        """Decide while the sensors answer."""
        seen, fewer = self._seen(), self._fewer(time, stats)
        if fewer is not None:
            clips, why, cause = fewer
            self.microbatches.shrink(time, clips, self.settings.grow_after)
            self._cool_since = None
            return Decision("shrink", self.microbatch, 0.0, f"{seen}: {why}", cause)
        needed = self._rest_needed(time)
        if needed >= MIN_REST_SECONDS:
            self._braking = True
            reason = f"{seen}: the limit is reached or near"
            return Decision("rest", self.microbatch, min(needed, self.settings.longest_rest), reason, "limit")
        if self._grown(time, stats):
            return self._work(f"{seen}: it stays cool, micro-batches grow", "grow")
        if self.duty >= 1:
            return self._work(f"{seen}: full duty", "free")
        return self._work(f"{seen}: duty {self.duty:.2f}", "hold")

    def _fewer(self, time: float, stats: StepStats) -> tuple[int, str, Cause] | None:
        """Return how many clips a micro-batch shrinks to, and why; None: it does not."""
        seconds, heats = stats.longest, self.heats.values()
        if stats.clips <= 1 or seconds <= 0:
            return None
        ahead = self.settings.lookahead + seconds
        rise = max((heat.rise for heat in heats if heat.foreseen(time, ahead) >= 0), default=0.0)
        if rise * seconds > 2 * RIPPLE_CELSIUS:
            return self.microbatches.fitting(stats, rise), f"{stats.clips} clips would end beyond the limit", "ripple"
        if self.microbatches.settled(time):
            if seconds * max(heat.heating for heat in heats) * (1 - self.duty) > RIPPLE_CELSIUS:
                why = f"{stats.clips} clips at once heat by more than {RIPPLE_CELSIUS:.0f} °C"
                return stats.clips // 2, why, "ripple"
            if seconds > MIN_DIVIDED_SECONDS and any(heat.swing > RIPPLE_CELSIUS / 2 for heat in heats):
                return stats.clips // 2, "readings swing from one to the next", "ripple"
            if self._strained_since is not None and time - self._strained_since > self.settings.lookahead:
                return stats.clips // 2, "the lowest duty is not enough", "floor"
        return None

    def _grown(self, time: float, stats: StepStats) -> bool:
        """Let micro-batches grow, if it is time and they would not swing the temperature."""
        heats = self.heats.values()
        if self.microbatch is None or stats.longest <= 0 or self._cool_since is None:
            return False
        below = -self.settings.headroom - HARMLESS_SWING_CELSIUS
        far = all(heat.excess is None or heat.excess <= below for heat in heats)
        if time - self._cool_since < self.settings.grow_after * (1 if far else self.microbatches.caution):
            return False
        clips, seconds = self.microbatches.larger(stats)
        ripple = seconds * max(heat.heating for heat in heats) * (1 - self.duty)
        if ripple > (RIPPLE_CELSIUS if far else RIPPLE_CELSIUS / 2):
            return False
        if not far and any(heat.swing > RIPPLE_CELSIUS / 4 for heat in heats):
            return False
        self.microbatches.grow(time, clips, stats.batch)
        self._cool_since = time
        return True

    def _rest_needed(self, time: float) -> float:
        """Return the seconds of rest that keep every temperature off its limit until the lookahead."""
        needed = 0.0
        for heat in self.heats.values():
            if heat.throttled or (heat.excess is not None and heat.excess >= 0):
                return MAX_BRAKE_SECONDS
            needed = max(needed, heat.foreseen(time, self.settings.lookahead) / heat.heating)
        return min(MAX_BRAKE_SECONDS, needed - self._braked)

    def _work(self, reason: str, cause: Cause) -> Decision:
        """Run, or first rest until the work done so far is paid for at the present duty."""
        owed = self._busy * (1 / self.duty - 1) - self._rested
        if owed >= MIN_REST_SECONDS:
            return Decision("rest", self.microbatch, min(owed, self.settings.longest_rest), reason, cause)
        if owed <= 0:
            self._busy = self._rested = 0.0
        return Decision("run", self.microbatch, 0.0, reason, cause)

    def _seen(self) -> str:
        """Describe the temperature that is nearest to its limit."""
        name = hottest(self.heats) or ""
        return _named(name) + self.heats[name].described()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on, in plain values."""
        return {
            "heats": {name: asdict(heat) for name, heat in self.heats.items()},
            "others": {name: asdict(heat) for name, heat in self.others.items()},
            "microbatch": asdict(self.microbatches),
            "safe_duty": self._safe_duty,
            "unsettled": [self._busy, self._rested, self._braked],
            "braking": self._braking,
            "since": [self._began_at, self._hot_since, self._cool_since, self._strained_since],
            "stopped": self.stopped is not None,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, paused: bool = True) -> None:
        """Continue from `state_dict` on the same clock.

        ``paused``: the device was left alone meanwhile, or is another. Neither a stop nor temperatures are remembered
        then: resuming is a new attempt, and temperatures will have changed.
        """
        self.stopped = None
        self.heats, self.others = (
            {name: Heat(**heat) for name, heat in state[of].items()} for of in ("heats", "others")
        )
        self.microbatches = MicroBatchLimit(**state["microbatch"])
        self._safe_duty = state["safe_duty"]
        self._busy, self._rested, self._braked = state["unsettled"]
        self._braking, since = state["braking"], state["since"]
        if paused:
            since = [None] * len(since)
            for heat in (*self.heats.values(), *self.others.values()):
                heat.forget()
        self._began_at, self._hot_since, self._cool_since, self._strained_since = since


def _named(name: str) -> str:
    """Begin a reason: with nothing for the core of the only device."""
    return f"{name.strip()}: " if name.strip() else ""


def _since(since: float | None, time: float, holds: bool) -> float | None:
    """Return since when something holds that, if it did, held since ``since``; None: it does not."""
    return (time if since is None else since) if holds else None
