"""Read sensors regularly: in a thread, or, for a simulated device, as its own time passes."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from w2v_abx.thermal.sensor import Reading, Sensor
from w2v_abx.thermal.simulated import Simulated

__all__ = ["Clock", "PlantSampler", "ThreadSampler", "WallClock"]


class Clock(Protocol):
    """Tells the time in seconds, and waits."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class WallClock:
    """The machine's own clock, going on from a given second."""

    def __init__(self, began: float = 0.0) -> None:
        self._zero = time.monotonic() - began

    def now(self) -> float:
        return time.monotonic() - self._zero

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ThreadSampler:
    """Reads sensors every ``period`` seconds in a daemon thread. A read that fails or hangs never harms training.

    ``error``: why reading fails now; None: it does not.
    """

    def __init__(self, sensors: Mapping[str, Sensor], clock: Clock, period: float) -> None:
        """``sensors``: by the name that readings are to carry."""
        self.error: str | None = None
        self._sensors, self._clock, self._period = sensors, clock, period
        self._readings: deque[Reading] = deque()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="thermal-sampler", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._closed.is_set():
            failures = []
            for name, sensor in self._sensors.items():
                try:
                    self._readings.append(replace(sensor.read(self._clock.now()), device=name))
                except Exception as error:  # whatever a driver raises: the thread must live to see the sensor come back
                    failures.append(f"{name}: {error or type(error).__name__}".removeprefix(": "))
            self.error = "; ".join(failures) or None
            self._closed.wait(self._period)

    def take(self) -> list[Reading]:
        """Return the readings since the last call, oldest first."""
        return [self._readings.popleft() for _ in range(len(self._readings))]

    def close(self) -> None:
        """End the thread; one that hangs in its driver is left behind after a second."""
        self._closed.set()
        self._thread.join(timeout=1.0)


class PlantSampler:
    """Reads a simulated device every ``period`` seconds of the device's own time."""

    def __init__(self, name: str, plant: Simulated, period: float) -> None:
        self.error: str | None = None
        self._name, self._plant, self._period, self._next = name, plant, period, plant.now()

    def take(self) -> list[Reading]:
        """Return the readings that fell due since the last call, oldest first."""
        readings = []
        while self._next <= self._plant.now():
            readings.append(replace(self._plant.read(self._next), device=self._name))
            self._next += self._period
        return readings

    def close(self) -> None:
        """Nothing to end."""
