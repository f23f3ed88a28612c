"""``thermal.csv``: temperatures and every decision over time, one flushed row each; and decisions for the loggers."""

import csv
from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from w2v_abx import atomic
from w2v_abx.saving.metrics import MetricsCsv

__all__ = ["COLUMNS", "ThermalLog", "tell"]

COLUMNS = (
    "time",
    "step",
    "temperature",
    "memory",
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
    """Columns: ``time`` (s of training), ``step`` (effective batches done), ``temperature`` and ``memory`` (°C),
    ``power`` (W), ``utilisation`` (0 to 1), ``throttle`` (why the hardware is slowed down, parted by " + "),
    ``microbatch`` (clips), ``duty`` (share of time that may be work), ``rest_share`` (of the last half minute or so),
    ``action``, ``reason``, and, where there are several, the ``device`` that is nearest to its limit. Unknown is empty.
    """

    def __init__(self, path: Path, resume_at: float | None = None) -> None:
        """A new file, or with ``resume_at`` the old one up to that time: what came after is run, and logged, again."""
        rows: list[dict[str, str]] = []
        if resume_at is not None and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if _before(row, resume_at)]

        def begin(fresh: Path) -> None:
            with fresh.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)

        atomic.write(path, begin)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS)

    def write(self, **row: float | str | None) -> None:
        """One row, handed to the system before this returns."""
        short = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        self._writer.writerow(short)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _before(row: dict[str, str], time: float) -> bool:
    try:
        return float(row["time"]) <= time and row["reason"] is not None
    except (KeyError, TypeError, ValueError):
        return False  # the half row of a killed run


def tell(loggers: Iterable[Logger], step: int, decision: str) -> None:
    """Give a decision, in words, to the loggers that take words. The others have its numbers: micro-batch and rest."""
    for logger in loggers:
        if isinstance(logger, MetricsCsv | CSVLogger | WandbLogger):
            logger.log_metrics({"thermal/decision": decision}, step)  # type: ignore[dict-item]
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("thermal/decision", decision, step)
