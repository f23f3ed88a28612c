"""``thermal.csv``: temperature and every decision over time, one flushed row each."""

import csv
import os
from pathlib import Path

__all__ = ["COLUMNS", "ThermalLog"]

COLUMNS = ("time", "step", "temperature", "power", "microbatch", "rest_share", "action", "reason")


class ThermalLog:
    """Columns: ``time`` (s of training), ``step`` (effective batches done), ``temperature`` (°C), ``power`` (W),
    ``microbatch`` (clips), ``rest_share`` (of the last half minute or so), ``action``, ``reason``. Unknown is empty.
    """

    def __init__(self, path: Path, resume_at: float | None = None) -> None:
        """A new file, or with ``resume_at`` the old one up to that time: what came after is run, and logged, again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, str]] = []
        if resume_at is not None and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if self._before(row, resume_at)]
        fresh = path.with_name(f".{path.name}.part")
        with fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(fresh, path)  # noqa: PTH105
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS)

    @staticmethod
    def _before(row: dict[str, str], time: float) -> bool:
        try:
            return float(row["time"]) <= time and row["reason"] is not None
        except (KeyError, TypeError, ValueError):
            return False  # the half row of a killed run

    def write(self, **row: float | str | None) -> None:
        """One row, on disk before this returns."""
        short = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        self._writer.writerow(short)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
