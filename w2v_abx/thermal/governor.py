"""Decides from readings and time alone how hard a device may work. No clock, no sleep, no device in here.

Two actuators: the *duty* (share of time that the device works, the rest being rest) and the *micro-batch*. Each
temperature, of each device's core and memory, allows a duty (:mod:`w2v_abx.thermal.heat`); the smallest holds.
Micro-batches shrink when one of them alone would heat the device by more than the allowed ripple, when it would end
beyond the limit, when readings swing, or when the lowest duty is not enough; they grow back after the device stayed
cool (:mod:`w2v_abx.thermal.pieces`).
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from w2v_abx.errors import InputError
from w2v_abx.thermal.pieces import RIPPLE, SHORT, Ran
from w2v_abx.thermal.sensor import Reading
from w2v_abx.thermal.state import MEMORY, State, named

__all__ = ["Action", "Cause", "Decision", "Governor", "Ran"]

Action = Literal["run", "shrink", "rest", "stop"]
Cause = Literal["free", "hold", "limit", "ripple", "floor", "grow", "wait", "held", "blind", "stop"]

SHORTEST_REST = 0.05  # s; shorter debts are carried over
FAR = 5.0  # °C below the target, from where on a swing does no harm
LAST = 2.0  # °C below the shutdown temperature: the last moment to save anything


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


class Governor:
    """Temperatures are °C, times seconds.

    ``limit``: of the core, not to be exceeded; None takes the device's own slowdown temperature minus ``margin``, or
    ``fallback_limit`` where the device does not name one. ``memory_limit``: of the memory; None takes the device's own
    threshold minus ``margin``, and where it names none the memory is not governed. A device whose hardware slows itself
    down all the same has its limit lowered to the margin below that. ``headroom``: the target lies this far below the
    limit. ``hysteresis``: the device counts as cool up to so far above the target. ``lookahead``: react as if the
    present rise had gone on for so long. ``lowest_duty``: smallest share of time at work. ``longest_rest``: in one
    piece. ``grow_after``: cool for so long before micro-batches grow. ``patience``: stop after resting for so long in
    vain. ``silent_after``: a sensor without a reading for so long is silent; the last safe duty, less what may still
    have heated, is then held for ``hold`` (less, if the last rise would have reached the limit by then, and not at all
    with a sensor that had only begun to answer), after which the run rests until readings return, at most for
    ``patience`` (``when_silent="rest"``), or stops (``"stop"``).
    """

    def __init__(
        self,
        limit: float | None = None,
        margin: float = 5.0,
        headroom: float = 1.5,
        fallback_limit: float = 80.0,
        memory_limit: float | None = None,
        hysteresis: float = 1.0,
        lookahead: float = 5.0,
        lowest_duty: float = 0.05,
        longest_rest: float = 5.0,
        grow_after: float = 60.0,
        patience: float = 300.0,
        silent_after: float = 10.0,
        hold: float = 60.0,
        when_silent: Literal["rest", "stop"] = "rest",
    ) -> None:
        """Raises InputError naming the key for a value out of range."""
        if when_silent not in {"rest", "stop"}:
            raise InputError(f"thermal.governor.when_silent={when_silent!r} must be rest or stop.")
        _check({key: value for key, value in locals().items() if key not in {"self", "when_silent"}})
        self.limit, self.margin, self.headroom, self.fallback_limit = limit, margin, headroom, fallback_limit
        self.memory_limit, self.hysteresis, self.lookahead = memory_limit, hysteresis, lookahead
        self.lowest_duty, self.longest_rest = lowest_duty, longest_rest
        self.grow_after, self.patience = grow_after, patience
        self.silent_after, self.hold, self.when_silent = silent_after, hold, when_silent
        self.state = State()
        self._seen = ""  # the last readings in words

    @property
    def duty(self) -> float:
        """The share of time that may be work."""
        return self.state.duty

    @property
    def microbatch(self) -> int | None:
        """Clips that may run at once; None: any number."""
        return self.state.pieces.limit

    def expect(self, devices: Iterable[str]) -> None:
        """Readings of these devices, and no others, will come: one that never comes is then missed, too."""
        self.state.expect(devices)

    def fork(self, devices: Iterable[str]) -> "Governor":
        """One that goes on alone with the readings of these devices, at no more than the duty of all."""
        fork = copy.copy(self)
        fork.state = self.state.fork(devices)
        return fork

    def decide(self, time: float, readings: Sequence[Reading], ran: Ran) -> Decision:
        """What to do now. ``readings``: those since the last decision, oldest first; often none.

        After ``rest``, rest for ``rest_seconds`` and ask again; after ``run`` and ``shrink``, run a micro-batch.
        """
        state = self.state
        state.began_at = time if state.began_at is None else state.began_at
        state.pass_time(ran.busy, ran.rested, self.lookahead)
        if ran.divisible:
            state.pieces.note(ran)
        for reading in readings:
            self._learn(reading)
        if readings:
            self._seen = state.seen()
        silence, silent = state.silence(time)
        state.stopped = state.stopped or self._why_stop(time, silence)
        if state.stopped is not None:
            return Decision("stop", self.microbatch, 0.0, state.stopped, "stop")
        if silence > self.silent_after:
            return self._blind(time, silence, silent)
        if state.hottest is None:
            return self._work("waits for the first reading", "wait")
        return self._governed(time, ran)

    def _learn(self, reading: Reading) -> None:
        state, duty = self.state, self.duty
        core, memory = state.heat(reading.device), reading.device + MEMORY
        if core.read_at is None and reading.slowdown not in {None, core.threshold}:
            core.threshold = None  # of another card, that trained before the run was resumed
        core.shutdown, core.throttled = reading.shutdown, bool(reading.throttled)
        if core.throttled and core.threshold is None:
            core.threshold = reading.temperature if reading.slowdown is None else reading.slowdown
        limit = self.limit
        if limit is None:
            limit = self.fallback_limit if reading.slowdown is None else reading.slowdown - self.margin
        if core.threshold is not None:
            limit = min(limit, core.threshold - self.margin)
        core.learn(reading.time, reading.temperature, limit, self.headroom, duty)
        limit = self.memory_limit
        if limit is None and reading.memory_slowdown is not None:
            limit = reading.memory_slowdown - self.margin
        if reading.memory is not None and limit is not None:
            state.heat(memory).learn(reading.time, reading.memory, limit, self.headroom, duty)
        elif memory in state.heats and state.heats[memory].read_at is None:
            del state.heats[memory]  # this card has none that is governed; the one that trained before had
        state.bound(self.lowest_duty)
        state.watch(reading.time, self.hysteresis - self.headroom, self.lowest_duty)

    def _why_stop(self, time: float, silence: float) -> str | None:
        state = self.state
        for name, heat in state.heats.items():
            if heat.temperature is not None and heat.shutdown is not None and heat.temperature >= heat.shutdown - LAST:
                return f"{named(name)}{heat.temperature:.1f} °C, and the device shuts down at {heat.shutdown:.1f} °C"
        if state.hot_since is not None and time - state.hot_since > self.patience:
            return f"{self._seen} after {time - state.hot_since:.0f} s of rest: resting does not help"
        if silence - self.silent_after - self.hold > (0 if self.when_silent == "stop" else self.patience):
            return f"no reading for {silence:.0f} s"
        return None

    def _blind(self, time: float, silence: float, silent: str) -> Decision:
        """A sensor is silent."""
        state = self.state
        for heat in state.heats.values():
            heat.duty = max(self.lowest_duty, min(heat.duty, heat.steady(state.safe_duty)))
        known = silent in state.heats and all(heat.known for heat in state.heats.values())
        safe = known and state.rest_needed(time, self.lookahead) <= 0
        seen = f"{named(silent)}no reading for {silence:.0f} s"
        if safe and silence <= self.silent_after + self.hold:
            return self._work(f"{seen}: holds the last safe duty", "held")
        reason = f"{seen}: rests until the sensor answers"
        return Decision("rest", self.microbatch, self.longest_rest, reason, "blind")

    def _governed(self, time: float, ran: Ran) -> Decision:
        """The sensors answer."""
        state, seen = self.state, self._seen
        fewer = self._fewer(time, ran)
        if fewer is not None:
            clips, why, cause = fewer
            state.pieces.shrink(time, clips, self.grow_after)
            state.cool_since = None
            return Decision("shrink", self.microbatch, 0.0, f"{seen}: {why}", cause)
        needed = state.rest_needed(time, self.lookahead)
        if needed >= SHORTEST_REST:
            state.braking = True
            reason = f"{seen}: the limit is reached or near"
            return Decision("rest", self.microbatch, min(needed, self.longest_rest), reason, "limit")
        if self._grown(time, ran):
            return self._work(f"{seen}: it stays cool, micro-batches grow", "grow")
        if self.duty >= 1:
            return self._work(f"{seen}: full duty", "free")
        return self._work(f"{seen}: duty {self.duty:.2f}", "hold")

    def _fewer(self, time: float, ran: Ran) -> tuple[int, str, Cause] | None:
        """How many clips a micro-batch shrinks to, and why; None: it does not."""
        state, seconds, heats = self.state, ran.seconds, self.state.heats.values()
        if not ran.divisible or ran.clips <= 1 or seconds <= 0:
            return None
        rise = max((heat.rise for heat in heats if heat.foreseen(time, self.lookahead + seconds) >= 0), default=0.0)
        if rise * seconds > 2 * RIPPLE:
            return state.pieces.fitting(ran, rise), f"{ran.clips} clips would end beyond the limit", "ripple"
        if state.pieces.settled(time):
            if seconds * state.heating * (1 - self.duty) > RIPPLE:
                return ran.clips // 2, f"{ran.clips} clips at once heat by more than {RIPPLE:.0f} °C", "ripple"
            if seconds > SHORT and any(heat.swing > RIPPLE / 2 for heat in heats):
                return ran.clips // 2, "readings swing from one to the next", "ripple"
            if state.strained_since is not None and time - state.strained_since > self.lookahead:
                return ran.clips // 2, "the lowest duty is not enough", "floor"
        return None

    def _far(self) -> bool:
        """Whether everything is so cool that swings do no harm."""
        return all(heat.excess is None or heat.excess <= -self.headroom - FAR for heat in self.state.heats.values())

    def _grown(self, time: float, ran: Ran) -> bool:
        """Let micro-batches grow, if it is time and they would not swing the temperature."""
        state, heats = self.state, self.state.heats.values()
        if not ran.divisible or self.microbatch is None or ran.seconds <= 0 or state.cool_since is None:
            return False
        far = self._far()
        if time - state.cool_since < self.grow_after * (1 if far else state.pieces.caution):
            return False
        clips, seconds, share = state.pieces.larger(ran)
        ripple = seconds * state.heating * (1 - share * self.duty)
        if ripple > (RIPPLE if far else RIPPLE / 2) or (not far and any(heat.swing > RIPPLE / 4 for heat in heats)):
            return False
        state.pieces.grow(time, clips, ran.batch)
        state.cool_since = time
        for heat in heats:
            heat.duty = max(self.lowest_duty, share * heat.duty)
        return True

    def _work(self, reason: str, cause: Cause) -> Decision:
        """Run, or first rest until the work done so far is paid for at the present duty."""
        state = self.state
        owed = self.owed(state.busy, state.rested)
        if owed >= SHORTEST_REST:
            return Decision("rest", self.microbatch, min(owed, self.longest_rest), reason, cause)
        if owed <= 0:
            state.busy = state.rested = 0.0
        return Decision("run", self.microbatch, 0.0, reason, cause)

    def owed(self, busy: float, rested: float) -> float:
        """Seconds of rest that so much work still needs at the present duty."""
        return busy * (1 / self.duty - 1) - rested

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on, in plain values."""
        return self.state.plain()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict` on the same clock. Neither a stop nor temperatures are remembered."""
        self.state = State.resumed(state)


def _check(given: Mapping[str, Any]) -> None:
    """Refuse what is not a number, and numbers that no device could be held with."""

    def need(holds: bool, key: str, what: str) -> None:
        if not holds:
            raise InputError(f"thermal.governor.{key}={given[key]} must be {what}.")

    limits = [key for key in ("limit", "memory_limit", "fallback_limit") if given[key] is not None]
    for key in [*limits, *(given.keys() - {"limit", "memory_limit"})]:
        number = isinstance(given[key], int | float) and not isinstance(given[key], bool)
        need(number and 0 <= given[key] < math.inf, key, "a number, 0 or more")
    for key in limits:
        need(0 < given[key] < 150, key, "a temperature in °C, below 150")
    for key in ("lowest_duty", "longest_rest", "silent_after"):
        need(given[key] > 0, key, "more than 0")
    need(given["lowest_duty"] <= 1, "lowest_duty", "a share of time, at most 1")
    least = min(given[key] for key in limits)
    for key in ("margin", "headroom"):
        need(given[key] < least, key, f"less than the limit of {least} °C")
    need(given["hysteresis"] < given["headroom"], "hysteresis", f"less than headroom={given['headroom']}")
