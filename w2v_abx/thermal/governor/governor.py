"""Decide from readings and time alone how hard a device may work: no clock, no sleep, no device in here.

Two actuators: the *duty* (share of time that the device works, the rest being rest) and the *micro-batch*. Each
temperature, of each device's core and memory, allows a duty (:mod:`w2v_abx.thermal.governor.heat`); the smallest holds.
Micro-batches shrink when one of them alone would heat the device by more than the allowed ripple, when it would end
beyond the limit, when readings swing, or when the lowest duty is not enough; they grow back after the device stayed
cool (:mod:`w2v_abx.thermal.governor.microbatch_limit`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from w2v_abx.thermal.governor.microbatch_limit import MIN_DIVIDED_SECONDS, RIPPLE_CELSIUS, StepStats
from w2v_abx.thermal.governor.settings import GovernorSettings
from w2v_abx.thermal.governor.state import MEMORY, State, hottest, named
from w2v_abx.thermal.sensors.sensor import Reading

__all__ = ["Action", "Cause", "Decision", "Governor", "strictest"]

Action = Literal["run", "shrink", "rest", "stop"]  # from the mildest to the strictest, as causes are
Cause = Literal["wait", "free", "grow", "hold", "held", "ripple", "floor", "limit", "blind", "stop"]

MIN_REST_SECONDS = 0.05  # shorter debts are carried over
HARMLESS_SWING_CELSIUS = 5.0  # below the target, from where on a swing does no harm
SHUTDOWN_MARGIN_CELSIUS = 2.0  # the last moment to save anything


@dataclass(frozen=True)
class Decision:
    """``microbatch``: at most so many clips at once (None: no limit). ``rest_seconds``: to rest before asking again.

    ``reason``: a sentence with the numbers. ``cause``: its kind, which changes only when what goes on changes.
    """

    action: Action
    microbatch: int | None
    rest_seconds: float
    reason: str
    cause: Cause


def strictest(decisions: Sequence[Decision], duties: Sequence[float]) -> Decision:
    """Combine decisions of several ranks, whose devices allow ``duties``: the longest rest, the smallest micro-batch,
    and the reason of the strictest cause, or of the lowest duty among them."""
    causes, actions = get_args(Cause), get_args(Action)
    leading, _ = max(zip(decisions, duties, strict=True), key=lambda pair: (causes.index(pair[0].cause), -pair[1]))
    limits = [decision.microbatch for decision in decisions if decision.microbatch is not None]
    return replace(
        leading,
        action=max((decision.action for decision in decisions), key=actions.index),
        rest_seconds=max(decision.rest_seconds for decision in decisions),
        microbatch=min(limits, default=None),
    )


class Governor:
    """Decides for the devices of one process. Temperatures are °C, times seconds."""

    def __init__(self, settings: GovernorSettings | None = None) -> None:
        self.settings = settings or GovernorSettings()
        self.state = State()
        self._seen = ""  # the last readings in words

    @property
    def duty(self) -> float:
        """The share of time that may be work."""
        return self.state.duty

    @property
    def microbatch(self) -> int | None:
        """Clips that may run at once; None: any number."""
        return self.state.microbatch.clips

    def decide(self, time: float, readings: Sequence[Reading], stats: StepStats) -> Decision:
        """Decide what to do now. ``readings`` and ``stats``: of the time since the last decision, readings oldest first
        and often none.

        After ``rest``, rest for ``rest_seconds`` and ask again; after ``run`` and ``shrink``, run a micro-batch.
        """
        state = self.state
        state.began_at = time if state.began_at is None else state.began_at
        state.pass_time(stats.busy, stats.rested, self.settings.lookahead)
        state.microbatch.learn(stats)
        for reading in readings:
            self._learn(reading)
        if readings:
            self._seen = state.seen()
        silence, silent = state.silence(time)
        state.stopped = state.stopped or self._why_stop(time, silence)
        if state.stopped is not None:
            return Decision("stop", self.microbatch, 0.0, state.stopped, "stop")
        if silence > self.settings.silent_after:
            return self._blind(time, silence, silent)
        if hottest(state.heats) is None:
            return self._work("waits for the first reading", "wait")
        return self._governed(time, stats)

    def _learn(self, reading: Reading) -> None:
        """Learn from a reading of a device's core and memory."""
        state, settings, duty = self.state, self.settings, self.duty
        core, memory = state.heat(reading.device), reading.device + MEMORY
        if core.read_at is None and reading.slowdown not in {None, core.threshold}:
            core.threshold = None  # of another card, that trained before the run was resumed
        core.shutdown, core.throttled = reading.shutdown, bool(reading.throttled)
        if core.throttled and core.threshold is None:
            core.threshold = reading.temperature if reading.slowdown is None else reading.slowdown
        limit = settings.limit
        if limit is None:
            limit = settings.fallback_limit if reading.slowdown is None else reading.slowdown - settings.margin
        if core.threshold is not None:
            limit = min(limit, core.threshold - settings.margin)
        core.learn(reading.time, reading.temperature, limit, settings.headroom, duty)
        limit = settings.memory_limit
        if limit is None and reading.memory_slowdown is not None:
            limit = reading.memory_slowdown - settings.margin
        if reading.memory is not None and limit is not None:
            state.heat(memory).learn(reading.time, reading.memory, limit, settings.headroom, duty)
        elif memory in state.heats and state.heats[memory].read_at is None:
            del state.heats[memory]  # this card has none that is governed; the one that trained before had
        state.bound(settings.lowest_duty)
        state.watch(reading.time, settings.hysteresis - settings.headroom, settings.lowest_duty)

    def _why_stop(self, time: float, silence: float) -> str | None:
        """Return why the run has to stop; None: it does not."""
        state, settings = self.state, self.settings
        for name, heat in state.heats.items():
            if heat.temperature is None or heat.shutdown is None:
                continue
            if heat.temperature >= heat.shutdown - SHUTDOWN_MARGIN_CELSIUS:
                return f"{named(name)}{heat.temperature:.1f} °C, and the device shuts down at {heat.shutdown:.1f} °C"
        if state.hot_since is not None and time - state.hot_since > settings.patience:
            return f"{self._seen} after {time - state.hot_since:.0f} s of rest: resting does not help"
        blind = silence - settings.silent_after - settings.hold
        if blind > (0 if settings.when_silent == "stop" else settings.patience):
            return f"no reading for {silence:.0f} s"
        return None

    def _blind(self, time: float, silence: float, silent: str) -> Decision:
        """Decide while a sensor is silent."""
        state = self.state
        for heat in state.heats.values():
            heat.duty = max(self.settings.lowest_duty, min(heat.duty, heat.steady(state.safe_duty)))
        known = silent in state.heats and all(heat.known for heat in state.heats.values())
        safe = known and state.rest_needed(time, self.settings.lookahead) <= 0
        seen = f"{named(silent)}no reading for {silence:.0f} s"
        if safe and silence <= self.settings.silent_after + self.settings.hold:
            return self._work(f"{seen}: holds the last safe duty", "held")
        reason = f"{seen}: rests until the sensor answers"
        return Decision("rest", self.microbatch, self.settings.longest_rest, reason, "blind")

    def _governed(self, time: float, stats: StepStats) -> Decision:
        """Decide while the sensors answer."""
        state, seen = self.state, self._seen
        fewer = self._fewer(time, stats)
        if fewer is not None:
            clips, why, cause = fewer
            state.microbatch.shrink(time, clips, self.settings.grow_after)
            state.cool_since = None
            return Decision("shrink", self.microbatch, 0.0, f"{seen}: {why}", cause)
        needed = state.rest_needed(time, self.settings.lookahead)
        if needed >= MIN_REST_SECONDS:
            state.braking = True
            reason = f"{seen}: the limit is reached or near"
            return Decision("rest", self.microbatch, min(needed, self.settings.longest_rest), reason, "limit")
        if self._grown(time, stats):
            return self._work(f"{seen}: it stays cool, micro-batches grow", "grow")
        if self.duty >= 1:
            return self._work(f"{seen}: full duty", "free")
        return self._work(f"{seen}: duty {self.duty:.2f}", "hold")

    def _fewer(self, time: float, stats: StepStats) -> tuple[int, str, Cause] | None:
        """Return how many clips a micro-batch shrinks to, and why; None: it does not."""
        state, seconds, heats = self.state, stats.longest, self.state.heats.values()
        if stats.clips <= 1 or seconds <= 0:
            return None
        ahead = self.settings.lookahead + seconds
        rise = max((heat.rise for heat in heats if heat.foreseen(time, ahead) >= 0), default=0.0)
        if rise * seconds > 2 * RIPPLE_CELSIUS:
            return state.microbatch.fitting(stats, rise), f"{stats.clips} clips would end beyond the limit", "ripple"
        if state.microbatch.settled(time):
            if seconds * state.heating * (1 - self.duty) > RIPPLE_CELSIUS:
                why = f"{stats.clips} clips at once heat by more than {RIPPLE_CELSIUS:.0f} °C"
                return stats.clips // 2, why, "ripple"
            if seconds > MIN_DIVIDED_SECONDS and any(heat.swing > RIPPLE_CELSIUS / 2 for heat in heats):
                return stats.clips // 2, "readings swing from one to the next", "ripple"
            if state.strained_since is not None and time - state.strained_since > self.settings.lookahead:
                return stats.clips // 2, "the lowest duty is not enough", "floor"
        return None

    def _grown(self, time: float, stats: StepStats) -> bool:
        """Let micro-batches grow, if it is time and they would not swing the temperature."""
        state, heats = self.state, self.state.heats.values()
        if self.microbatch is None or stats.longest <= 0 or state.cool_since is None:
            return False
        below = -self.settings.headroom - HARMLESS_SWING_CELSIUS
        far = all(heat.excess is None or heat.excess <= below for heat in heats)
        if time - state.cool_since < self.settings.grow_after * (1 if far else state.microbatch.caution):
            return False
        clips, seconds, share = state.microbatch.larger(stats)
        ripple = seconds * state.heating * (1 - share * self.duty)
        if ripple > (RIPPLE_CELSIUS if far else RIPPLE_CELSIUS / 2):
            return False
        if not far and any(heat.swing > RIPPLE_CELSIUS / 4 for heat in heats):
            return False
        state.microbatch.grow(time, clips, stats.batch)
        state.cool_since = time
        for heat in heats:
            heat.duty = max(self.settings.lowest_duty, share * heat.duty)
        return True

    def _work(self, reason: str, cause: Cause) -> Decision:
        """Run, or first rest until the work done so far is paid for at the present duty."""
        state = self.state
        owed = state.busy * (1 / self.duty - 1) - state.rested
        if owed >= MIN_REST_SECONDS:
            return Decision("rest", self.microbatch, min(owed, self.settings.longest_rest), reason, cause)
        if owed <= 0:
            state.busy = state.rested = 0.0
        return Decision("run", self.microbatch, 0.0, reason, cause)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on, in plain values."""
        return asdict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict` on the same clock. Neither a stop nor temperatures are remembered."""
        self.state = State.resumed(state)
