"""Play a recording."""

import csv
import math
from bisect import bisect_right
from pathlib import Path
from typing import Any

from w2v_abx.errors import InputError
from w2v_abx.thermal.sensors.sensor import Reading, SensorError

__all__ = ["Recorded"]


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
        with self.path.open(newline="", encoding="utf-8-sig") as file:
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
