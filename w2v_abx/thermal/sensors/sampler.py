"""Read sensors regularly."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from w2v_abx.errors import InputError
from w2v_abx.thermal.sensors.sensor import Reading, Sensor
from w2v_abx.thermal.sensors.simulated import Simulated

__all__ = ["Sampler"]


class Sampler:
    """Reads sensors every ``period`` seconds, and tells the time that readings bear.

    Real sensors are read in a daemon thread: one that fails or hangs never harms training. A simulated device is read
    as its own time passes, and a sleep returns at once.

    Attributes:
        plant: The simulated device; None: time is real.
        error: Why reading fails now; None: it does not.
        due: When a simulated device is read next.
    """

    def __init__(self, sensors: Mapping[str, Sensor], period: float, began: float = 0.0) -> None:
        """Start to read. ``sensors``: by the name that readings are to carry. ``began``: the second that real time goes
        on from. Raises InputError for a simulated device that is not the only one."""
        plants = [sensor for sensor in sensors.values() if isinstance(sensor, Simulated)]
        if plants and len(sensors) > 1:
            raise InputError("thermal.sensor: a simulated device has a time of its own, and so must be the only one.")
        self.plant = plants[0] if plants else None
        self.error: str | None = None
        self._sensors, self._period = sensors, period
        self._readings: deque[Reading] = deque()
        self._zero = time.monotonic() - began
        self.due = self.now()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="thermal-sampler", daemon=True)
        if self.plant is None:
            self._thread.start()

    def now(self) -> float:
        """Return the time in seconds."""
        return time.monotonic() - self._zero if self.plant is None else self.plant.now()

    def sleep(self, seconds: float) -> None:
        """Let the device idle for so long."""
        (time if self.plant is None else self.plant).sleep(seconds)

    def take(self) -> list[Reading]:
        """Return the readings since the last call, oldest first."""
        while self.plant is not None and self.due <= self.now():
            self._read(self.due)
            self.due += self._period
        return [self._readings.popleft() for _ in range(len(self._readings))]

    def close(self) -> None:
        """End the thread; one that hangs in its driver is left behind after a second."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _loop(self) -> None:
        self._read(self.now())
        while not self._closed.wait(self._period):
            self._read(self.now())

    def _read(self, at: float) -> None:
        failures = []
        for name, sensor in self._sensors.items():
            try:
                self._readings.append(replace(sensor.read(at), device=name))
            except Exception as error:  # whatever a driver raises: the thread must live to see the sensor come back
                failures.append(f"{name}: {error or type(error).__name__}".removeprefix(": "))
        self.error = "; ".join(failures) or None
