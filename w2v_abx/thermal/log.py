"""``thermal.csv``: temperatures and every decision over time, one flushed row each."""

import csv
import math
from contextlib import suppress
from pathlib import Path

from w2v_abx.system import atomic

__all__ = ["COLUMNS", "ThermalLog", "last_time"]

COLUMNS = (
    "time",
    "step",
    "temperature",
    "memory",
    "slowdown",
    "shutdown",
    "memory_slowdown",
    "power",
    "utilisation",
    "throttle",
    "microbatch",
    "duty",
    "rest_share",
    "action",
    "reason",
    "device",
)


class ThermalLog:
    """Columns: ``time`` (s of the run's work, never falling), ``step`` (effective batches done; empty outside of
    training), ``temperature`` and ``memory`` (°C), ``slowdown``, ``shutdown`` and ``memory_slowdown`` (their limits,
    °C), ``power`` (W), ``utilisation`` (0 to 1), ``throttle`` (why the hardware is slowed down, parted by " + "),
    ``microbatch`` (clips; empty outside of training), ``duty`` (share of time that may be work), ``rest_share`` (of the
    last half minute or so), ``action``, ``reason``, and, where there are several, the ``device`` that is nearest to its
    limit. Unknown is empty. Raises InputError for a file that cannot be written.
    """

    def __init__(self, path: Path, resume_at: float | None = None) -> None:
        """Begin a new file, or with ``resume_at`` keep the old one up to that time: what came after is run, and
        logged, again."""
        rows: list[dict[str, str]] = []
        if resume_at is not None and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if _before(row, resume_at)]

        def begin(fresh: Path) -> None:
            with fresh.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)

        self._path, self._time = path, float(rows[-1]["time"]) if rows else 0.0
        with atomic.written(path):
            atomic.write(path, begin)
            self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS)

    def write(self, time: float, **row: float | str | None) -> None:
        """Write one row, handed to the system before this returns."""
        self._time = max(self._time, time)  # a slow sensor's reading may be of before the last row
        values = {"time": self._time, **row}
        with atomic.written(self._path):
            self._writer.writerow(
                {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}
            )
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what a full disk did not take, it was asked for before
            self._file.close()


def _before(row: dict[str, str], time: float) -> bool:
    """Whether a row is whole and not after ``time``."""
    try:
        return float(row["time"]) <= time and row["reason"] is not None
    except (KeyError, TypeError, ValueError):
        return False  # the half row of a killed run


def last_time(path: Path) -> float | None:
    """Read the time of the last whole row of a ``thermal.csv``, s; None: there is none."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        return max((float(row["time"]) for row in csv.DictReader(file) if _before(row, math.inf)), default=None)
