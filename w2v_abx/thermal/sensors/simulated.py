"""Simulate a device that heats when it works, cools when it rests, throttles, and shuts down.

First-order RC model: ``capacity · dT/dt = power − cooling · (T − ambient)``.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from w2v_abx.system.checks import number
from w2v_abx.thermal.sensors.sensor import HARDWARE_HEAT, Reading

__all__ = ["Simulated", "SimulatedShutdown"]

STEP_SECONDS = 0.1  # of integration: short beside any plant worth simulating
THROTTLED_CELSIUS = 2.0  # below the slowdown temperature, down to which a throttled device stays so


class SimulatedShutdown(RuntimeError):
    """The simulated device reached its shutdown temperature and is off."""


@dataclass(kw_only=True, eq=False)
class Simulated:
    """Sensor, clock and device in one. It has its own time, in seconds: work and rest advance it, nothing waits.

    Work on a micro-batch of n clips takes ``clip_seconds · (n + overhead_clips)`` and draws ``idle_watts +
    (full_watts − idle_watts) · n / (n + overhead_clips)``: small micro-batches are cooler and less efficient. At
    ``slowdown`` the hardware throttles (half the speed, half the power above idle) until 2 °C below it; at ``shutdown``
    it goes off. The sensor shows the temperature of ``delay`` seconds ago, rounded to ``resolution`` °C (0: exact).
    Raises InputError for what no device can have.
    """

    ambient: float = 25.0  # °C
    cooling: float = 4.0  # W/°C
    capacity: float = 250.0  # J/°C
    idle_watts: float = 40.0
    full_watts: float = 300.0
    clip_seconds: float = 0.05
    overhead_clips: float = 0.5
    delay: float = 1.0
    resolution: float = 0.0
    slowdown: float = 90.0
    shutdown: float = 95.0

    def __post_init__(self) -> None:
        key = "thermal.sensor."
        for name in ("cooling", "capacity", "clip_seconds"):
            number(key + name, getattr(self, name), above=0)
        for name in ("delay", "resolution", "overhead_clips"):
            number(key + name, getattr(self, name), low=0)
        number(f"{key}idle_watts", self.idle_watts, low=0, high=self.full_watts, hint="full_watts is the most")
        number(f"{key}ambient", self.ambient, below=self.slowdown, hint="the slowdown temperature is above it")
        number(f"{key}slowdown", self.slowdown, below=self.shutdown, hint="the shutdown temperature is above it")
        self.clock = 0.0
        self.temperature = self.ambient + self.idle_watts / self.cooling  # as it was before the run: idle, settled
        self.power = self.idle_watts
        self.throttled = False
        self._history: deque[tuple[float, float]] = deque([(0.0, self.temperature)])

    def now(self) -> float:
        """Return the seconds on the plant's own clock."""
        return self.clock

    def sleep(self, seconds: float) -> None:
        """Let the device idle for so long; returns at once."""
        self._pass(seconds, self.idle_watts)

    def work(self, clips: int) -> float:
        """Run a micro-batch of so many clips; return the seconds it took, twice as many on a throttled device."""
        started, left = self.clock, self.clip_seconds * (clips + self.overhead_clips)
        extra = (self.full_watts - self.idle_watts) * clips / (clips + self.overhead_clips)
        while left > 1e-9:
            speed = 0.5 if self.throttled else 1.0
            step = min(STEP_SECONDS, left / speed)
            self._pass(step, self.idle_watts + extra * speed)
            left -= step * speed
        return self.clock - started

    def _pass(self, seconds: float, power: float) -> None:
        self.power = power
        settled, end = self.ambient + power / self.cooling, self.clock + seconds
        while end - self.clock > 1e-9:
            step = min(STEP_SECONDS, end - self.clock)
            self.temperature += (settled - self.temperature) * -math.expm1(-step * self.cooling / self.capacity)
            self.clock += step
            self._history.append((self.clock, self.temperature))
            self.throttled = self.temperature >= self.slowdown - (THROTTLED_CELSIUS if self.throttled else 0.0)
            if self.temperature >= self.shutdown:
                raise SimulatedShutdown(f"The simulated device shut down at {self.temperature:.1f} °C.")

    def read(self, time: float) -> Reading:
        """Read the sensor at ``time`` on the plant's own clock: now, or earlier but not before the last read."""
        while len(self._history) > 1 and self._history[1][0] <= time - self.delay + 1e-9:
            self._history.popleft()
        temperature = self._history[0][1]
        if self.resolution:
            temperature = round(temperature / self.resolution) * self.resolution
        busy = (self.power - self.idle_watts) / max(self.full_watts - self.idle_watts, 1e-9)
        throttle = (HARDWARE_HEAT,) if self.throttled else ()
        return Reading(time, temperature, self.power, busy, throttle, self.slowdown, self.shutdown)

    def state_dict(self) -> dict[str, Any]:
        """Return clock and heat, so that a resumed run finds the device as it left it."""
        names = ("clock", "temperature", "power", "throttled")
        return {name: getattr(self, name) for name in names} | {"history": list(self._history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.clock, self.temperature = state["clock"], state["temperature"]
        self.power, self.throttled = state["power"], state["throttled"]
        self._history = deque(tuple(entry) for entry in state["history"])
