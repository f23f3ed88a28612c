"""Readings, the protocol of sensors, and a sensor that plays a recording."""

import csv
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from w2v_abx.errors import InputError

__all__ = ["HARDWARE_HEAT", "SOFTWARE_HEAT", "Reading", "Recorded", "Sensor", "SensorError"]

PLAUSIBLE_CELSIUS = (-40.0, 150.0)  # outside of this, the sensor is wrong
HARDWARE_HEAT = "hardware thermal slowdown"  # beyond the slowdown temperature: clocks are halved or worse
SOFTWARE_HEAT = "software thermal slowdown"  # the driver lowers clocks to hold a temperature of its own


class SensorError(InputError):
    """A sensor is missing, failed, or said something impossible."""


@dataclass(frozen=True)
class Reading:
    """The temperature and state of a device at one moment. What a sensor does not know is None, never a guess.

    ``time``: seconds on the reader's clock. ``temperature``: of the core, °C. ``power``: W. ``utilisation``: 0 to 1.
    ``throttle``: why the device runs slower than it could, in words; empty: it does not. ``slowdown`` and ``shutdown``:
    the core's own limits, °C. ``memory`` and ``memory_slowdown``: the same of the device's memory. ``device``: whose
    reading it is where there are several.
    Raises SensorError for a temperature that is not finite or outside of −40 to 150 °C.
    """

    time: float
    temperature: float
    power: float | None = None
    utilisation: float | None = None
    throttle: tuple[str, ...] | None = None
    slowdown: float | None = None
    shutdown: float | None = None
    memory: float | None = None
    memory_slowdown: float | None = None
    device: str = ""

    def __post_init__(self) -> None:
        for temperature in (self.temperature, self.memory):
            if temperature is not None and not PLAUSIBLE_CELSIUS[0] <= temperature <= PLAUSIBLE_CELSIUS[1]:
                raise SensorError(f"the sensor says {temperature} °C, which cannot be")

    @classmethod
    def parsed(cls, plain: Mapping[str, Any]) -> Self:
        """Make a reading from its fields, as JSON has them."""
        return cls(**{**plain, "throttle": None if plain["throttle"] is None else tuple(plain["throttle"])})

    @property
    def throttled(self) -> bool | None:
        """Whether the hardware slows itself down because of heat."""
        return None if self.throttle is None else HARDWARE_HEAT in self.throttle


@runtime_checkable
class Sensor(Protocol):
    """Anything that can be read."""

    def read(self, time: float) -> Reading:
        """Read the device now, at ``time`` (seconds on the caller's clock). Raises SensorError when it cannot."""
        ...


class Recorded:
    """Plays a CSV with the columns ``time`` (s, rising) and ``temperature`` (°C), and any other fields of Reading.

    A run's own ``thermal.csv`` is such a file; reasons in ``throttle`` are parted by ``" + "``. A read gives the last
    row at or before the asked time, so a gap in the file reads on; past the last row, and where the temperature is
    empty, the sensor fails, as a silent one does.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises InputError naming the file and line for a missing file, column, or value that is not a number."""
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"The recorded temperatures {self.path} do not exist.")
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = {"time", "temperature"} - set(rows.fieldnames or [])
            if missing:
                raise InputError(f"{self.path} has no column {' or '.join(sorted(missing))}.")
            self._rows = [self._row(row, rows.line_num) for row in rows]
        self._times = [row["time"] for row in self._rows]
        if not self._rows or self._times != sorted(self._times):
            raise InputError(f"The column time of {self.path} must rise, in at least one row.")

    def _row(self, row: dict[str, str], line: int) -> dict[str, Any]:
        given = {name: text for name, text in row.items() if text and name in Reading.__dataclass_fields__}
        words = {"throttle": tuple(given.pop("throttle").split(" + "))} if "throttle" in given else {}
        given.pop("device", None)
        try:
            return {"time": float(row["time"]), **{name: float(text) for name, text in given.items()}, **words}
        except (TypeError, ValueError):
            raise InputError(f"Line {line} of {self.path} holds a value that is not a number.") from None

    def read(self, time: float) -> Reading:
        """Return the last row at or before ``time``."""
        if not self._times[0] <= time <= self._times[-1]:
            raise SensorError(f"{self.path.name} holds nothing for {time:.1f} s")
        row = self._rows[bisect_right(self._times, time) - 1]
        if not math.isfinite(row.get("temperature", math.nan)):
            raise SensorError(f"{self.path.name} has no temperature at {time:.1f} s")
        return Reading(**{**row, "time": time})
