"""Write ``metrics.csv``: a row each time something is logged, and none twice however often the run is killed."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from w2v_abx.system import atomic, checks

__all__ = ["MetricsCsv"]


class MetricsCsv(Logger):
    """A column ``step`` and one for each metric, in alphabetical order; what was not logged with a row is empty.

    A checkpoint holds the number of rows, to which a resumed run cuts the file. Otherwise the file is new.

    Args:
        folder: of the run.
        every_rows: write after so many rows; at checkpoints and at the end in any case.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, folder: str | Path, every_rows: int = 10) -> None:
        super().__init__()
        checks.whole("logger.csv.every_rows", every_rows, 1)
        self.path = Path(folder) / "metrics.csv"
        self.every_rows = every_rows
        self._columns: list[str] = []
        self._written = 0  # rows in the file that are this run's; 0: whatever there is, is not
        self._waiting: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """``config.yaml`` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        row = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        self._waiting.append(row if step is None else row | {"step": step})
        if len(self._waiting) >= self.every_rows:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that wait."""
        if not self._waiting:
            return
        columns = sorted({*self._columns, *(name for row in self._waiting for name in row)})
        with atomic.written(self.path):
            if columns != self._columns or not self._written:
                self._rewrite(columns, [*(self._read() if self._written else []), *self._waiting])
            else:
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, columns).writerows(self._waiting)
        self._written += len(self._waiting)
        self._waiting = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def state_dict(self) -> dict[str, Any]:
        """The number of rows, all of them on the disk."""
        self.save()
        if self._written:
            with atomic.written(self.path), self.path.open("ab") as file:
                os.fsync(file.fileno())
        return {"rows": self._written}

    @rank_zero_only
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep so many rows of the file; what came after them is run, and logged, again."""
        self._waiting = []
        rows = self._read()[: state["rows"]] if self.path.is_file() else []
        self._columns, self._written = [], 0
        if rows:
            with atomic.written(self.path):
                self._rewrite(list(rows[0]), rows)
            self._written = len(rows)

    def _read(self) -> list[dict[str, Any]]:
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        def write(temporary: Path) -> None:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)

        atomic.write(self.path, write)
        self._columns = columns
