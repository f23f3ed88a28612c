"""What the governor knows: temperatures, and since when they are high or low."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from w2v_abx.thermal.governor.heat import Heat
from w2v_abx.thermal.governor.microbatch_limit import MicroBatchLimit

__all__ = ["MEMORY", "State", "hottest", "named"]

MAX_BRAKE_SECONDS = 1.0  # of rest between two looks at a temperature that nears its limit
MAX_DUTY_LEAD = 0.1  # of any temperature's duty over the lowest, which holds
MEMORY = " memory"  # after a device's name: its memory


@dataclass
class State:
    """All that the governor remembers; times are seconds on the caller's clock.

    ``heats``: by device, and for a device's memory. ``others``: those of other ranks' devices as they last shared them,
    whose duties hold here, too. ``devices``: those that are expected to be read; None: whatever comes. ``busy`` and
    ``rested``: seconds not yet settled. ``braked``: seconds of rest that the sensor has not shown yet.
    """

    heats: dict[str, Heat] = field(default_factory=dict)
    others: dict[str, Heat] = field(default_factory=dict)
    microbatch: MicroBatchLimit = field(default_factory=MicroBatchLimit)
    devices: list[str] | None = None
    safe_duty: float = 1.0
    began_at: float | None = None
    busy: float = 0.0
    rested: float = 0.0
    braked: float = 0.0
    braking: bool = False
    hot_since: float | None = None
    cool_since: float | None = None
    strained_since: float | None = None
    stopped: str | None = None

    @property
    def duty(self) -> float:
        """The share of time that may be work."""
        return min((heat.duty for heat in (*self.heats.values(), *self.others.values())), default=1.0)

    @property
    def heating(self) -> float:
        """°C/s at full duty, of whatever heats fastest."""
        return max(heat.heating for heat in self.heats.values())

    def expect(self, devices: Iterable[str], others: Iterable[str] = ()) -> None:
        """Expect readings of ``devices``, and no others; ``others``: devices of other ranks."""
        self.devices, known = sorted(devices), {**self.others, **self.heats}
        self.heats, self.others = (
            {name: heat for name, heat in known.items() if name.removesuffix(MEMORY) in names}
            for names in (self.devices, {*others})
        )

    def heat(self, name: str) -> Heat:
        """Return the temperature of a device or, by its name with `MEMORY`, of its memory."""
        return self.heats.setdefault(name, Heat())

    def pass_time(self, busy: float, rested: float, lookahead: float) -> None:
        """Add seconds of work and rest."""
        self.busy += busy
        self.rested += rested
        self.braked *= math.exp(-(busy + rested) / max(lookahead, 1e-9))
        self.braked += rested if self.braking else 0.0
        self.braking = False

    def bound(self, lowest_duty: float) -> None:
        """Keep duties from ``lowest_duty`` to 1, and near to the lowest."""
        for heat in self.heats.values():
            heat.duty = min(1.0, max(lowest_duty, heat.duty))
        duty = self.duty
        for heat in self.heats.values():
            heat.duty = min(heat.duty, duty + MAX_DUTY_LEAD)

    def watch(self, time: float, cool_below: float, lowest_duty: float) -> None:
        """Note since when the devices are hot, cool (``cool_below``: °C above their limits), or at the lowest duty and
        still not cool."""
        excess = max(heat.excess for heat in self.heats.values() if heat.excess is not None)
        if any(heat.throttled for heat in self.heats.values()):
            excess = max(excess, 0.0)
        cool = excess <= cool_below
        self.hot_since = _since(self.hot_since, time, excess >= 0)
        self.cool_since = _since(self.cool_since, time, cool)
        self.strained_since = _since(self.strained_since, time, not cool and self.duty <= lowest_duty)
        if cool:
            self.safe_duty = self.duty

    def silence(self, time: float) -> tuple[float, str]:
        """Return the seconds since the last reading of the device, or memory, that was not read for longest, and its
        name; 0 where none is expected."""
        began = time if self.began_at is None else self.began_at
        last = {name: heat.read_at for name, heat in self.heats.items() if heat.read_at is not None}
        expected = ([] if last else [""]) if self.devices is None else self.devices
        last |= {name: began for name in expected if name not in last}
        name = min(last, key=lambda name: last[name], default="")
        return time - last.get(name, time), name

    def rest_needed(self, time: float, lookahead: float) -> float:
        """Return the seconds of rest that keep every temperature off its limit until the lookahead."""
        needed = 0.0
        for heat in self.heats.values():
            if heat.throttled or (heat.excess is not None and heat.excess >= 0):
                return MAX_BRAKE_SECONDS
            needed = max(needed, heat.foreseen(time, lookahead) / heat.heating)
        return min(MAX_BRAKE_SECONDS, needed - self.braked)

    def seen(self) -> str:
        """Describe the temperature that is nearest to its limit."""
        name = hottest(self.heats)
        assert name is not None
        heat = self.heats[name]
        assert heat.temperature is not None
        assert heat.excess is not None
        limit = f"limit {heat.temperature - heat.excess:.1f} °C"
        if heat.threshold is not None:
            limit += f", as the hardware slowed down at {heat.threshold:.1f} °C"
        return f"{named(name)}{heat.temperature:.1f} °C ({limit}), {heat.slope:+.2f} °C/s"

    @classmethod
    def resumed(cls, plain: Mapping[str, Any]) -> "State":
        """Make the state from its plain values. A stop is not remembered, because resuming is a new attempt; nor are
        temperatures, which will have changed meanwhile."""
        heats, others = ({name: Heat(**heat) for name, heat in plain[key].items()} for key in ("heats", "others"))
        for heat in (*heats.values(), *others.values()):
            heat.forget()
        limit = MicroBatchLimit(**plain["microbatch"])
        state = cls(**{**plain, "heats": heats, "others": others, "microbatch": limit})
        state.stopped = state.began_at = state.hot_since = state.cool_since = state.strained_since = None
        return state


def hottest(heats: Mapping[str, Heat]) -> str | None:
    """Name the device, or memory, that is nearest to its limit or furthest beyond it; None: nothing was read yet."""
    excess = {name: heat.excess for name, heat in heats.items() if heat.excess is not None}
    return max(excess, key=lambda name: excess[name], default=None)


def named(name: str) -> str:
    """Begin a reason: with nothing for the core of the only device."""
    return f"{name.strip()}: " if name.strip() else ""


def _since(since: float | None, time: float, holds: bool) -> float | None:
    """Return since when something holds that, if it did, held since ``since``; None: it does not."""
    return (time if since is None else since) if holds else None
