"""Decides from readings and time alone how hard a device may work. No clock, no sleep, no device in here.

Two actuators: the *duty* (share of time that the device works, the rest being rest) and the *micro-batch*. A
velocity-form PI law on the duty holds the temperature at a target a little below the limit,

    d(duty)/dt = gain / heating · ((target − T) / settling − dT/dt),

that is: it steers the slope of the temperature towards an exponential approach, braking before the target is reached.
The velocity form has no wind-up when the duty is at an end. ``heating`` (°C/s at full duty) is learnt from the steepest
rise seen. Micro-batches shrink when one of them alone would heat the device by more than the allowed ripple, or when
the lowest duty is not enough; they grow back after the device stayed cool.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from w2v_abx.errors import InputError
from w2v_abx.thermal.sensor import Reading

__all__ = ["Decision", "Governor", "Ran"]

Action = Literal["run", "shrink", "rest", "stop"]

SMOOTHING = 3.0  # s, time constant of the slope's low-pass filter: over the 1 °C steps of most sensors
TREND = (
    10.0  # s, of the slope that ``heating`` is learnt from: a chip jumps some degrees under load in its first second
)
GAIN = 0.08  # 1/s, bandwidth of the slope loop: stable with some 6 s of sensor delay and smoothing
SETTLING = 35.0  # s, of the exponential approach to the target: slower than the slope loop, or the two would fight
RIPPLE = 1.0  # °C that one micro-batch may add near the target
SHORTEST_REST = 0.05  # s; shorter debts are carried over
SHRINK_EVERY = 5.0  # s between two halvings: the device needs time to show what the last one did


@dataclass(frozen=True)
class Ran:
    """What happened since the last decision: seconds of work and of rest, clips per micro-batch, and per batch."""

    busy: float = 0.0
    rested: float = 0.0
    clips: int = 1
    batch: int = 1


@dataclass(frozen=True)
class Decision:
    """``microbatch``: at most so many clips at once (None: no limit). ``rest_seconds``: to rest before asking again."""

    action: Action
    microbatch: int | None
    rest_seconds: float
    reason: str


@dataclass
class State:
    """All that the governor remembers; times are seconds on the caller's clock."""

    duty: float = 1.0
    safe_duty: float = 1.0
    microbatch: int | None = None
    limit: float | None = None
    shutdown: float | None = None
    temperature: float | None = None
    slope: float = 0.0
    trend: float = 0.0
    heating: float = 0.5
    read_at: float | None = None
    busy: float = 0.0
    rested: float = 0.0
    hot_since: float | None = None
    cool_since: float | None = None
    strained_since: float | None = None
    shrunk_at: float = -math.inf
    stopped: str | None = None


class Governor:
    """Temperatures are °C, times seconds.

    ``limit``: not to be exceeded; None takes the device's own slowdown temperature minus ``margin``, or
    ``fallback_limit`` where the device does not name one. ``headroom``: the target lies this far below the limit.
    ``hysteresis``: the device counts as cool up to so far above the target. ``lookahead``: react as if the present rise
    had gone on for so long. ``lowest_duty``: smallest share of time at work. ``longest_rest``: in one piece.
    ``grow_after``: cool for so long before micro-batches grow. ``patience``: stop after resting for so long in vain.
    ``silent_after``: a sensor without a reading for so long is silent; the last safe duty is then held for ``hold``
    (less, if the last rise would have reached the limit by then), after which the run rests until readings return, at
    most for ``patience`` (``when_silent="rest"``), or stops (``"stop"``).
    """

    def __init__(
        self,
        limit: float | None = None,
        margin: float = 5.0,
        headroom: float = 2.5,
        fallback_limit: float = 80.0,
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
        given = {key: value for key, value in locals().items() if key not in {"self", "limit", "when_silent"}}
        for key, value in given.items():
            if not 0 <= value < math.inf:
                raise InputError(f"thermal.governor.{key}={value} must be 0 or more.")
        if limit is not None and not 0 < limit < 150:
            raise InputError(
                f"thermal.governor.limit={limit} must be a temperature in °C, or null for the device's own."
            )
        if not 0 < lowest_duty <= 1 or longest_rest == 0:
            raise InputError("thermal.governor needs lowest_duty above 0 and at most 1, and longest_rest above 0.")
        if when_silent not in {"rest", "stop"}:
            raise InputError(f"thermal.governor.when_silent={when_silent!r} must be rest or stop.")
        self.limit, self.margin, self.headroom, self.fallback_limit = limit, margin, headroom, fallback_limit
        self.hysteresis, self.lookahead = hysteresis, lookahead
        self.lowest_duty, self.longest_rest = lowest_duty, longest_rest
        self.grow_after, self.patience = grow_after, patience
        self.silent_after, self.hold, self.when_silent = silent_after, hold, when_silent
        self.state = State(limit=limit)

    @property
    def target(self) -> float | None:
        """The temperature that is held, °C; None before the first reading where the limit is the device's own."""
        return None if self.state.limit is None else self.state.limit - self.headroom

    def decide(self, time: float, readings: Sequence[Reading], ran: Ran) -> Decision:
        """What to do now. ``readings``: those since the last decision, oldest first; often none.

        After ``rest``, rest for ``rest_seconds`` and ask again; after ``run`` and ``shrink``, run a micro-batch.
        """
        state = self.state
        state.busy += ran.busy
        state.rested += ran.rested
        if state.read_at is None:
            state.read_at = time
        for reading in readings:
            self._learn(reading)
        state.stopped = state.stopped or self._why_stop(time)
        if state.stopped is not None:
            return Decision("stop", state.microbatch, 0.0, state.stopped)
        if time - state.read_at > self.silent_after:
            return self._blind(time)
        if state.temperature is None or state.limit is None:
            return self._work("waits for the first reading")
        return self._governed(time, ran, f"{state.temperature:.1f} °C, {state.slope:+.2f} °C/s")

    def _blind(self, time: float) -> Decision:
        """The sensor is silent."""
        state = self.state
        silence = time - (state.read_at or 0.0)
        state.duty = min(state.duty, state.safe_duty)
        unsafe = state.limit is not None and self._foreseen(time) >= state.limit
        if unsafe or silence > self.silent_after + self.hold:
            reason = f"no reading for {silence:.0f} s: rests until the sensor answers"
            return Decision("rest", state.microbatch, self.longest_rest, reason)
        return self._work(f"no reading for {silence:.0f} s: holds the last safe duty")

    def _governed(self, time: float, ran: Ran, rise: str) -> Decision:
        """The sensor answers."""
        state = self.state
        assert state.limit is not None
        shrink = self._why_shrink(time, ran)
        if shrink is not None:
            smaller = max(1, ran.clips // 2)
            state.microbatch = smaller if state.microbatch is None else min(smaller, state.microbatch)
            state.shrunk_at, state.cool_since = time, None
            return Decision("shrink", state.microbatch, 0.0, f"{rise}: {shrink}")
        if self._foreseen(time) >= state.limit:
            reason = f"{rise}: the limit of {state.limit:.1f} °C is reached or near"
            return Decision("rest", state.microbatch, min(1.0, self.longest_rest), reason)
        if self._may_grow(time, ran):
            grown = 2 * (state.microbatch or ran.clips)
            state.microbatch, state.cool_since = (None if grown >= ran.batch else grown), time
            return self._work(f"{rise}: cool for {self.grow_after:.0f} s, micro-batches grow")
        return self._work(f"{rise}: duty {state.duty:.2f} towards {self.target:.1f} °C")

    def _learn(self, reading: Reading) -> None:
        state = self.state
        if state.limit is None:
            state.limit = self.fallback_limit if reading.slowdown is None else reading.slowdown - self.margin
        state.shutdown = reading.shutdown
        previous, passed = state.temperature, reading.time - (state.read_at or 0.0)
        state.temperature, state.read_at = reading.temperature, reading.time
        if previous is not None and passed > 0:
            slope = (reading.temperature - previous) / passed
            state.slope += (slope - state.slope) * -math.expm1(-passed / SMOOTHING)
            state.trend += (slope - state.trend) * -math.expm1(-passed / TREND)
            state.heating = max(state.heating, state.trend / max(state.duty, 0.3))
            self._steer(passed)
        self._watch(reading)

    def _steer(self, passed: float) -> None:
        state = self.state
        assert state.temperature is not None
        assert self.target is not None
        wanted = (self.target - state.temperature) / SETTLING
        change = GAIN / state.heating * (wanted - state.slope) * passed
        state.duty = min(1.0, max(self.lowest_duty, state.duty + min(0.02 * passed, max(-0.2 * passed, change))))

    def _watch(self, reading: Reading) -> None:
        """Since when the device is hot, cool, or as idle as it can be and still not cool."""
        state, time, temperature = self.state, reading.time, reading.temperature
        assert state.limit is not None
        assert self.target is not None
        cool = temperature <= self.target + self.hysteresis
        strained = not cool and state.duty <= self.lowest_duty
        state.cool_since = (time if state.cool_since is None else state.cool_since) if cool else None
        hot = temperature >= state.limit
        state.hot_since = (time if state.hot_since is None else state.hot_since) if hot else None
        state.strained_since = (time if state.strained_since is None else state.strained_since) if strained else None
        if cool:
            state.safe_duty = state.duty

    def _foreseen(self, time: float) -> float:
        """°C if the last rise seen goes on until the lookahead from now; a fall is not counted on."""
        state = self.state
        assert state.temperature is not None
        assert state.read_at is not None
        return state.temperature + (time - state.read_at + self.lookahead) * max(0.0, state.slope)

    def _why_stop(self, time: float) -> str | None:
        state = self.state
        assert state.read_at is not None
        if state.temperature is not None and state.shutdown is not None and state.temperature >= state.shutdown - 2:
            return f"{state.temperature:.1f} °C, and the device shuts down at {state.shutdown:.1f} °C"
        if state.hot_since is not None and time - state.hot_since > self.patience:
            return f"{state.temperature:.1f} °C after {time - state.hot_since:.0f} s of rest: resting does not help"
        silence = time - state.read_at - self.silent_after - self.hold
        if silence > (0 if self.when_silent == "stop" else self.patience):
            return f"no reading for {time - state.read_at:.0f} s"
        return None

    def _why_shrink(self, time: float, ran: Ran) -> str | None:
        state = self.state
        assert self.target is not None
        assert state.temperature is not None
        if ran.clips <= 1 or ran.busy <= 0 or time - state.shrunk_at < SHRINK_EVERY:
            return None
        if ran.busy * state.heating * (1 - state.duty) > RIPPLE:
            return f"a micro-batch of {ran.clips} clips alone heats by more than {RIPPLE:.0f} °C"
        if state.strained_since is not None and time - state.strained_since > SHRINK_EVERY:
            return "the lowest duty is not enough"
        return None

    def _may_grow(self, time: float, ran: Ran) -> bool:
        state = self.state
        if state.microbatch is None or state.cool_since is None or ran.busy <= 0:
            return False
        ripple = 2 * ran.busy * state.heating * (1 - state.duty)
        return time - state.cool_since >= self.grow_after and ripple <= RIPPLE / 2

    def _work(self, reason: str) -> Decision:
        """Run, or first rest until the work done so far is paid for at the present duty."""
        state = self.state
        owed = state.busy * (1 / state.duty - 1) - state.rested
        if owed >= SHORTEST_REST:
            return Decision("rest", state.microbatch, min(owed, self.longest_rest), reason)
        if owed <= 0:
            state.busy = state.rested = 0.0
        return Decision("run", state.microbatch, 0.0, reason)

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on, in plain values."""
        return asdict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict` on the same clock.

        A stop is not remembered, because resuming is a new attempt; nor is the limit, which may have been set anew.
        """
        known = {field.name for field in fields(State)}
        self.state = State(**{key: value for key, value in state.items() if key in known})
        self.state.stopped = self.state.hot_since = None
        self.state.limit, self.state.slope, self.state.trend = self.limit, 0.0, 0.0
