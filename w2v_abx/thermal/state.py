"""What the governor knows: the temperatures of all devices, and since when it is how it is."""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from w2v_abx.thermal.heat import Heat
from w2v_abx.thermal.pieces import Pieces

__all__ = ["MEMORY", "State", "named"]

BRAKE = 1.0  # s, longest rest between two looks at a temperature that nears its limit
LEAD = 0.1  # the duty of a temperature that is not the one that counts stays this close to that of the one that does
MEMORY = " memory"  # after a device's name: its memory


@dataclass
class State:
    """All that the governor remembers; times are seconds on the caller's clock.

    ``heats``: by device, and for a device's memory. ``devices``: those that are expected to be read; None: whatever
    comes. ``most``: duty.
    ``busy`` and ``rested``: seconds not yet settled. ``braked``: seconds of rest that the sensor has not shown yet.
    """

    heats: dict[str, Heat] = field(default_factory=dict)
    pieces: Pieces = field(default_factory=Pieces)
    devices: list[str] | None = None
    most: float = 1.0
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
        return min([self.most, *(heat.duty for heat in self.heats.values())])

    @property
    def hottest(self) -> str | None:
        """The device, or memory, that is nearest to its limit or furthest beyond it; None: nothing was read yet."""
        read = {name: heat.excess for name, heat in self.heats.items() if heat.excess is not None}
        return max(read, key=lambda name: read[name], default=None)

    @property
    def heating(self) -> float:
        """°C/s at full duty, of whatever heats fastest."""
        return max(heat.heating for heat in self.heats.values())

    def expect(self, devices: Iterable[str]) -> None:
        """Readings of these devices, and no others, will come."""
        self.devices = sorted(devices)
        self.heats = {name: heat for name, heat in self.heats.items() if name.removesuffix(MEMORY) in self.devices}

    def fork(self, devices: Iterable[str]) -> "State":
        """A copy for these devices alone, at no more than the duty of all."""
        fork = copy.deepcopy(self)
        fork.expect(devices)
        gone = self.heats.keys() - fork.heats.keys()
        fork.most = min([self.most, *(self.heats[name].duty for name in gone)])
        return fork

    def heat(self, name: str) -> Heat:
        """Of a device or its memory."""
        return self.heats.setdefault(name, Heat())

    def pass_time(self, busy: float, rested: float, lookahead: float) -> None:
        """So many seconds of work and rest went by."""
        self.busy += busy
        self.rested += rested
        self.braked *= math.exp(-(busy + rested) / max(lookahead, 1e-9))
        self.braked += rested if self.braking else 0.0
        self.braking = False

    def bound(self, lowest_duty: float) -> None:
        """Keep duties where they may be, and near to the one that counts."""
        for heat in self.heats.values():
            heat.duty = min(1.0, max(lowest_duty, heat.duty))
        duty = self.duty
        for heat in self.heats.values():
            heat.duty = min(heat.duty, duty + LEAD)

    def watch(self, time: float, cool_below: float, lowest_duty: float) -> None:
        """Since when the devices are hot, cool (°C above their limits), or as idle as can be and still not cool."""
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
        """Seconds since the last reading of the device, or memory, that was not read for longest, and its name; 0 where
        none is expected."""
        began = time if self.began_at is None else self.began_at
        last = {name: heat.read_at for name, heat in self.heats.items() if heat.read_at is not None}
        expected = ([] if last else [""]) if self.devices is None else self.devices
        last |= {name: began for name in expected if name not in last}
        name = min(last, key=lambda name: last[name], default="")
        return time - last.get(name, time), name

    def rest_needed(self, time: float, lookahead: float) -> float:
        """Seconds of rest that keep every temperature off its limit until the lookahead."""
        needed = 0.0
        for heat in self.heats.values():
            if heat.throttled or (heat.excess is not None and heat.excess >= 0):
                return BRAKE
            needed = max(needed, heat.foreseen(time, lookahead) / heat.heating)
        return min(BRAKE, needed - self.braked)

    def seen(self) -> str:
        """What is nearest to its limit, in words."""
        name = self.hottest
        assert name is not None
        heat = self.heats[name]
        assert heat.temperature is not None
        assert heat.excess is not None
        limit = f"limit {heat.temperature - heat.excess:.1f} °C"
        if heat.threshold is not None:
            limit += f", as the hardware slowed down at {heat.threshold:.1f} °C"
        return f"{named(name)}{heat.temperature:.1f} °C ({limit}), {heat.slope:+.2f} °C/s"

    def plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def resumed(cls, plain: Mapping[str, Any]) -> "State":
        """From :meth:`plain`. A stop is not remembered, because resuming is a new attempt; nor are temperatures, which
        will have changed meanwhile."""
        heats = {name: Heat(**heat) for name, heat in plain["heats"].items()}
        for heat in heats.values():
            heat.forget()
        state = cls(**{**plain, "heats": heats, "pieces": Pieces(**plain["pieces"])})
        state.stopped = state.began_at = state.hot_since = state.cool_since = state.strained_since = None
        return state


def named(name: str) -> str:
    """What a reason begins with: nothing for the core of the only device."""
    return f"{name.strip()}: " if name.strip() else ""


def _since(since: float | None, time: float, holds: bool) -> float | None:
    """Since when something holds that held, or not, since ``since``."""
    return (time if since is None else since) if holds else None
