"""Decides from readings and time alone how hard a device may work. No clock, no sleep, no device in here.

Two actuators: the *duty* (share of time that the device works, the rest being rest) and the *micro-batch*. Each
temperature, of each device's core and memory, allows a duty (see :mod:`w2v_abx.thermal.heat`); the smallest holds.
Micro-batches shrink when one of them alone would heat the device by more than the allowed ripple, when it would end
beyond the limit, or when the lowest duty is not enough; they grow back after the device stayed cool.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from w2v_abx.errors import InputError
from w2v_abx.thermal.heat import Heat
from w2v_abx.thermal.sensor import Reading

__all__ = ["Decision", "Governor", "Ran"]

Action = Literal["run", "shrink", "rest", "stop"]
Cause = Literal["free", "hold", "limit", "ripple", "floor", "grow", "wait", "silent", "stop"]

RIPPLE = 1.0  # °C that one micro-batch may add near the target
SHORT = 0.1  # s; micro-batches are not shortened below that because of swings
SHORTEST_REST = 0.05  # s; shorter debts are carried over
SHRINK_EVERY = 5.0  # s between two halvings: the device needs time to show what the last one did
LEAD = 0.1  # the duty of a temperature that is not the one that counts stays this close to that of the one that does
MOST_CAUTION = 64.0  # times grow_after
LAST = 2.0  # °C below the shutdown temperature: the last moment to save anything


@dataclass(frozen=True)
class Ran:
    """What happened since the last decision: seconds of work and of rest, clips per micro-batch, and per batch.

    ``piece``: seconds of the longest single micro-batch; 0: there was one, which took all the work.
    """

    busy: float = 0.0
    rested: float = 0.0
    clips: int = 1
    batch: int = 1
    piece: float = 0.0

    @property
    def seconds(self) -> float:
        """Of one micro-batch."""
        return self.piece or self.busy


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


@dataclass
class State:
    """All that the governor remembers; times are seconds on the caller's clock. Heats go by device and part."""

    heats: dict[str, Heat] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    most: float = 1.0
    safe_duty: float = 1.0
    microbatch: int | None = None
    began_at: float | None = None
    busy: float = 0.0
    rested: float = 0.0
    braked: float = 0.0
    braking: bool = False
    hot_since: float | None = None
    cool_since: float | None = None
    strained_since: float | None = None
    shrunk_at: float = -math.inf
    grown_at: float = -math.inf
    caution: float = 1.0
    stopped: str | None = None


class Governor:
    """Temperatures are °C, times seconds.

    ``limit``: of the core, not to be exceeded; None takes the device's own slowdown temperature minus ``margin``, or
    ``fallback_limit`` where the device does not name one. ``memory_limit``: of the memory; None takes the device's own
    threshold minus ``margin``, and where it names none the memory is not governed. A device whose hardware slows itself
    down below what it names, or is given, has its limit lowered to the margin below that. ``headroom``: the target
    lies this far below the limit. ``hysteresis``: the device counts as cool up to so far above the target.
    ``lookahead``: react as if the present rise had gone on for so long. ``lowest_duty``: smallest share of time at
    work. ``longest_rest``: in one piece. ``grow_after``: cool for so long before micro-batches grow. ``patience``: stop
    after resting for so long in vain. ``silent_after``: a sensor without a reading for so long is silent; the last safe
    duty is then held for ``hold`` (less, if the last rise would have reached the limit by then, and not at all for a
    sensor that never answered), after which the run rests until readings return, at most for ``patience``
    (``when_silent="rest"``), or stops (``"stop"``).
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
        limits = {"limit": limit, "memory_limit": memory_limit}
        given = {key: value for key, value in locals().items() if key not in {"self", "limits", "when_silent", *limits}}
        for key, value in given.items():
            if not 0 <= value < math.inf:
                raise InputError(f"thermal.governor.{key}={value} must be 0 or more.")
        for key, temperature in limits.items():
            if temperature is not None and not 0 < temperature < 150:
                raise InputError(
                    f"thermal.governor.{key}={temperature} must be a temperature in °C, or null for the device's own."
                )
        if not 0 < lowest_duty <= 1 or longest_rest == 0:
            raise InputError("thermal.governor needs lowest_duty above 0 and at most 1, and longest_rest above 0.")
        if when_silent not in {"rest", "stop"}:
            raise InputError(f"thermal.governor.when_silent={when_silent!r} must be rest or stop.")
        self.limit, self.margin, self.headroom, self.fallback_limit = limit, margin, headroom, fallback_limit
        self.memory_limit = memory_limit
        self.hysteresis, self.lookahead = hysteresis, lookahead
        self.lowest_duty, self.longest_rest = lowest_duty, longest_rest
        self.grow_after, self.patience = grow_after, patience
        self.silent_after, self.hold, self.when_silent = silent_after, hold, when_silent
        self.state = State()

    @property
    def duty(self) -> float:
        """The share of time that may be work."""
        return min([self.state.most, *(heat.duty for heat in self.state.heats.values())])

    @property
    def hottest(self) -> str | None:
        """The device and part that is nearest to its limit, or furthest beyond it; None: nothing was read yet."""
        read = {name: heat.excess for name, heat in self.state.heats.items() if heat.excess is not None}
        return max(read, key=lambda name: read[name], default=None)

    def expect(self, devices: Iterable[str]) -> None:
        """Readings of these devices, and no others, will come: one that never comes is then missed, too."""
        state = self.state
        state.devices = sorted(devices)
        state.heats = {name: heat for name, heat in state.heats.items() if name.removesuffix(" memory") in state.devices}

    def fork(self, devices: Iterable[str]) -> "Governor":
        """One that goes on alone with the readings of these devices, at no more than the duty of all."""
        fork = copy.copy(self)
        fork.state = copy.deepcopy(self.state)
        fork.expect(devices)
        gone = self.state.heats.keys() - fork.state.heats.keys()
        fork.state.most = min([self.state.most, *(self.state.heats[name].duty for name in gone)])
        return fork

    def decide(self, time: float, readings: Sequence[Reading], ran: Ran) -> Decision:
        """What to do now. ``readings``: those since the last decision, oldest first; often none.

        After ``rest``, rest for ``rest_seconds`` and ask again; after ``run`` and ``shrink``, run a micro-batch.
        """
        state = self.state
        state.busy += ran.busy
        state.rested += ran.rested
        # What a brake did is not seen before the sensor has caught up.
        state.braked *= math.exp(-(ran.busy + ran.rested) / max(self.lookahead, 1e-9))
        state.braked += ran.rested if state.braking else 0.0
        state.braking = False
        if state.began_at is None:
            state.began_at = time
        for reading in readings:
            self._learn(reading)
        silence, silent = self._silence(time)
        state.stopped = state.stopped or self._why_stop(time, silence)
        if state.stopped is not None:
            return Decision("stop", state.microbatch, 0.0, state.stopped, "stop")
        if silence > self.silent_after:
            return self._blind(time, silence, silent)
        if self.hottest is None:
            return self._work("waits for the first reading", "wait")
        return self._governed(time, ran)

    def _learn(self, reading: Reading) -> None:
        state, duty = self.state, self.duty
        core = state.heats.setdefault(reading.device, Heat())
        core.throttled = bool(reading.throttled)
        if core.throttled and core.threshold is None:
            core.threshold = reading.temperature if reading.slowdown is None else reading.slowdown
        limit = self.limit
        if limit is None:
            limit = self.fallback_limit if reading.slowdown is None else reading.slowdown - self.margin
        if core.threshold is not None:
            limit = min(limit, core.threshold - self.margin)
        core.shutdown = reading.shutdown
        core.learn(reading.time, reading.temperature, limit, self.headroom, duty)
        limit = self.memory_limit
        if limit is None and reading.memory_slowdown is not None:
            limit = reading.memory_slowdown - self.margin
        if reading.memory is not None and limit is not None:
            memory = state.heats.setdefault(f"{reading.device} memory", Heat())
            memory.learn(reading.time, reading.memory, limit, self.headroom, duty)
        for heat in state.heats.values():
            heat.duty = min(1.0, max(self.lowest_duty, heat.duty))
        duty = self.duty
        for heat in state.heats.values():
            heat.duty = min(heat.duty, duty + LEAD)
        self._watch(reading.time)

    def _watch(self, time: float) -> None:
        """Since when the device is hot, cool, or as idle as it can be and still not cool."""
        state = self.state
        excess = max(heat.excess for heat in state.heats.values() if heat.excess is not None)
        if any(heat.throttled for heat in state.heats.values()):
            excess = max(excess, 0.0)
        cool = excess <= self.hysteresis - self.headroom
        strained = not cool and self.duty <= self.lowest_duty
        state.hot_since = (time if state.hot_since is None else state.hot_since) if excess >= 0 else None
        state.cool_since = (time if state.cool_since is None else state.cool_since) if cool else None
        state.strained_since = (time if state.strained_since is None else state.strained_since) if strained else None
        if cool:
            state.safe_duty = self.duty

    def _silence(self, time: float) -> tuple[float, str]:
        """Seconds since the last reading of the device or part that was not read for longest, and its name."""
        state = self.state
        began = time if state.began_at is None else state.began_at
        last = {name: heat.read_at for name, heat in state.heats.items() if heat.read_at is not None}
        last |= {name: began for name in state.devices or ([] if last else [""]) if name not in last}
        name = min(last, key=lambda name: last[name])
        return time - last[name], name

    def _rest_needed(self, time: float) -> float:
        """Seconds of rest that keep every temperature off its limit until the lookahead."""
        state, needed = self.state, 0.0
        for heat in state.heats.values():
            if heat.throttled or (heat.excess is not None and heat.excess >= 0):
                return 1.0
            needed = max(needed, heat.foreseen(time, self.lookahead) / heat.heating)
        return needed - state.braked

    def _why_stop(self, time: float, silence: float) -> str | None:
        state = self.state
        for name, heat in state.heats.items():
            if heat.temperature is not None and heat.shutdown is not None and heat.temperature >= heat.shutdown - LAST:
                return f"{_named(name)}{heat.temperature:.1f} °C, and the device shuts down at {heat.shutdown:.1f} °C"
        if state.hot_since is not None and time - state.hot_since > self.patience:
            return f"{self._seen()} after {time - state.hot_since:.0f} s of rest: resting does not help"
        if silence - self.silent_after - self.hold > (0 if self.when_silent == "stop" else self.patience):
            return f"no reading for {silence:.0f} s"
        return None

    def _blind(self, time: float, silence: float, silent: str) -> Decision:
        """A sensor is silent."""
        state = self.state
        for heat in state.heats.values():
            heat.duty = min(heat.duty, state.safe_duty)
        heat = state.heats.get(silent, Heat())
        unsafe = heat.excess is None or self._rest_needed(time) > 0
        if unsafe or silence > self.silent_after + self.hold:
            reason = f"{_named(silent)}no reading for {silence:.0f} s: rests until the sensor answers"
            return Decision("rest", state.microbatch, self.longest_rest, reason, "silent")
        return self._work(f"{_named(silent)}no reading for {silence:.0f} s: holds the last safe duty", "silent")

    def _governed(self, time: float, ran: Ran) -> Decision:
        """The sensors answer."""
        state, seen = self.state, self._seen()
        shrunk = self._shrunk(time, ran)
        if shrunk is not None:
            smaller, why, cause = shrunk
            state.microbatch = smaller if state.microbatch is None else min(smaller, state.microbatch)
            if time - state.grown_at < 2 * self.grow_after:  # that was too much: growing and shrinking would alternate
                state.caution = min(2 * state.caution, MOST_CAUTION)
            state.shrunk_at, state.cool_since = time, None
            return Decision("shrink", state.microbatch, 0.0, f"{seen}: {why}", cause)
        needed = self._rest_needed(time)
        if needed >= SHORTEST_REST:
            state.braking = True
            reason = f"{seen}: the limit is reached or near"
            return Decision("rest", state.microbatch, min(needed, 1.0, self.longest_rest), reason, "limit")
        if self._may_grow(time, ran):
            size = state.microbatch or ran.clips
            grown = size + max(1, size // 4)  # larger ones draw more power: a leap would be seen in the temperature
            state.microbatch = None if grown >= ran.batch else grown
            state.cool_since = state.grown_at = time
            return self._work(f"{seen}: cool for {self.grow_after * state.caution:.0f} s, micro-batches grow", "grow")
        if self.duty >= 1:
            return self._work(f"{seen}: full duty", "free")
        return self._work(f"{seen}: duty {self.duty:.2f}", "hold")

    def _seen(self) -> str:
        """What is nearest to its limit, in words."""
        name = self.hottest
        assert name is not None
        heat = self.state.heats[name]
        assert heat.temperature is not None
        assert heat.excess is not None
        lowered = "" if heat.threshold is None else f", for the hardware slowed down at {heat.threshold:.1f} °C"
        limit = f"limit {heat.temperature - heat.excess:.1f} °C{lowered}"
        return f"{_named(name)}{heat.temperature:.1f} °C ({limit}), {heat.slope:+.2f} °C/s"

    def _shrunk(self, time: float, ran: Ran) -> tuple[int, str, Cause] | None:
        """Fewer clips per micro-batch, and why; None: they may stay as many."""
        state, seconds = self.state, ran.seconds
        if ran.clips <= 1 or seconds <= 0:
            return None
        heating = max(heat.heating for heat in state.heats.values())
        if seconds * heating > 2 * RIPPLE:
            over = max(heat.foreseen(time, self.lookahead + seconds) for heat in state.heats.values())
            if over >= 0:
                smaller = max(1, int(2 * ran.clips * RIPPLE / (seconds * heating)))
                return smaller, f"{ran.clips} clips would end beyond the limit", "ripple"
        if time - state.shrunk_at < SHRINK_EVERY:
            return None
        if seconds * heating * (1 - self.duty) > RIPPLE:
            return ran.clips // 2, f"a micro-batch of {ran.clips} clips heats by more than {RIPPLE:.0f} °C", "ripple"
        if seconds > SHORT and max(heat.jitter for heat in state.heats.values()) > RIPPLE:
            return ran.clips // 2, f"readings swing by more than {RIPPLE:.0f} °C", "ripple"
        if state.strained_since is not None and time - state.strained_since > SHRINK_EVERY:
            return ran.clips // 2, "the lowest duty is not enough", "floor"
        return None

    def _may_grow(self, time: float, ran: Ran) -> bool:
        state = self.state
        if state.microbatch is None or state.cool_since is None or ran.seconds <= 0:
            return False
        heating = max(heat.heating for heat in state.heats.values())
        ripple = 2 * ran.seconds * heating * (1 - self.duty)
        quiet = max(ripple, *(heat.jitter for heat in state.heats.values())) <= RIPPLE / 2
        return quiet and time - state.cool_since >= self.grow_after * state.caution

    def _work(self, reason: str, cause: Cause) -> Decision:
        """Run, or first rest until the work done so far is paid for at the present duty."""
        state = self.state
        owed = self.owed(state.busy, state.rested)
        if owed >= SHORTEST_REST:
            return Decision("rest", state.microbatch, min(owed, self.longest_rest), reason, cause)
        if owed <= 0:
            state.busy = state.rested = 0.0
        return Decision("run", state.microbatch, 0.0, reason, cause)

    def owed(self, busy: float, rested: float) -> float:
        """Seconds of rest that so much work still needs at the present duty."""
        return busy * (1 / self.duty - 1) - rested

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on, in plain values."""
        return asdict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict` on the same clock.

        A stop is not remembered, because resuming is a new attempt; nor are temperatures, which will have changed.
        """
        known = {key.name for key in fields(State)}
        self.state = State(**{key: value for key, value in state.items() if key in known})
        self.state.heats = {name: Heat(**heat) for name, heat in state["heats"].items()}
        self.state.stopped = self.state.hot_since = self.state.strained_since = self.state.began_at = None
        for heat in self.state.heats.values():
            heat.forget()


def _named(name: str) -> str:
    """What a reason begins with: nothing for the core of the only device."""
    return f"{name.strip()}: " if name.strip() else ""
