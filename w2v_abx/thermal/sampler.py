"""When a sensor is read: in a thread of its own, or, for a simulated device, as its own time passes."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from w2v_abx.thermal.sensor import Reading, Sensor
from w2v_abx.thermal.simulated import Simulated

__all__ = ["PlantSampler", "Sampler", "ThreadSampler"]


class Sampler(Protocol):
    """Hands over what was read since the last time, and why reading fails now (None: it does not)."""

    error: str | None

    def take(self) -> list[Reading]: ...

    def close(self) -> None: ...


class ThreadSampler:
    """Reads the sensor every ``period`` seconds in a daemon thread. A read that fails or hangs never harms training."""

    def __init__(self, sensor: Sensor, now: Callable[[], float], period: float) -> None:
        self.error: str | None = None
        self._sensor, self._now, self._period = sensor, now, period
        self._readings: deque[Reading] = deque()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="thermal-sampler", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._closed.is_set():
            try:
                self._readings.append(self._sensor.read(self._now()))
                self.error = None
            except Exception as error:  # whatever a driver raises: the thread must live to see the sensor come back
                self.error = str(error) or type(error).__name__
            self._closed.wait(self._period)

    def take(self) -> list[Reading]:
        """The readings since the last call, oldest first."""
        return [self._readings.popleft() for _ in range(len(self._readings))]

    def close(self) -> None:
        """End the thread; one that hangs in its driver is left behind after a second."""
        self._closed.set()
        self._thread.join(timeout=1.0)


class PlantSampler:
    """Reads a simulated device every ``period`` seconds of the device's own time."""

    def __init__(self, plant: Simulated, period: float) -> None:
        self.error: str | None = None
        self._plant, self._period, self._next = plant, period, plant.now()

    def take(self) -> list[Reading]:
        """The readings that fell due since the last call, oldest first."""
        readings = []
        while self._next <= self._plant.now():
            readings.append(self._plant.read(self._next))
            self._next += self._period
        return readings

    def close(self) -> None:
        """Nothing to end."""
