"""What a temperature sensor is and what it says; a recorded one."""

import csv
import math
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from w2v_abx.errors import InputError

__all__ = ["Reading", "Recorded", "Sensor", "SensorError"]

PLAUSIBLE = (-40.0, 150.0)  # °C; a chip outside of this is a sensor that lies


class SensorError(Exception):
    """A sensor is missing, failed, or said something impossible."""


@dataclass(frozen=True)
class Reading:
    """One look at a device. What a sensor does not know is None, never a guess.

    ``time``: seconds on the reader's clock. ``temperature``: °C. ``power``: W. ``utilisation``: 0 to 1. ``throttled``:
    the hardware is slowing itself down because of heat. ``slowdown`` and ``shutdown``: the device's own limits, °C.
    Raises SensorError for a temperature that is not finite or outside of −40 to 150 °C.
    """

    time: float
    temperature: float
    power: float | None = None
    utilisation: float | None = None
    throttled: bool | None = None
    slowdown: float | None = None
    shutdown: float | None = None

    def __post_init__(self) -> None:
        if not PLAUSIBLE[0] <= self.temperature <= PLAUSIBLE[1]:
            raise SensorError(f"the sensor says {self.temperature} °C, which cannot be")


@runtime_checkable
class Sensor(Protocol):
    """Anything that can be read."""

    def read(self, time: float) -> Reading:
        """The device now, stamped ``time`` (seconds on the caller's clock). Raises SensorError when it cannot say."""
        ...


class Recorded:
    """Plays a CSV with the columns ``time`` (s, rising) and ``temperature`` (°C), and any other fields of Reading.

    A run's own ``thermal.csv`` is such a file. A read gives the last row at or before the asked time, so a gap in the
    file reads on; past the last row, and where the temperature is empty, the sensor fails, as a silent one does.
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

    def _row(self, row: dict[str, str], line: int) -> dict[str, float]:
        fields = Reading.__dataclass_fields__
        try:
            float(row["time"])
            return {name: float(text) for name, text in row.items() if name in fields and text}
        except (TypeError, ValueError):
            raise InputError(f"Line {line} of {self.path} holds a value that is not a number.") from None

    def read(self, time: float) -> Reading:
        """The last row at or before ``time``."""
        if not self._times[0] <= time <= self._times[-1]:
            raise SensorError(f"{self.path.name} holds nothing for {time:.1f} s")
        row = self._rows[bisect_right(self._times, time) - 1]
        if not math.isfinite(row.get("temperature", math.nan)):
            raise SensorError(f"{self.path.name} has no temperature at {time:.1f} s")
        throttled = bool(row["throttled"]) if "throttled" in row else None
        return Reading(**{**row, "time": time, "throttled": throttled})  # type: ignore[arg-type]
