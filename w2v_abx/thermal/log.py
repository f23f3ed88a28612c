"""Record decisions and the readings behind them: in ``thermal.csv``, for the loggers, and as warnings."""

import csv
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from w2v_abx.system import atomic
from w2v_abx.thermal.controller import ThermalController
from w2v_abx.thermal.governor.decision import Decision
from w2v_abx.thermal.sensors.sensor import Reading
from w2v_abx.training.saving.metrics import MetricsCsv

__all__ = ["COLUMNS", "ThermalLog", "energy", "last_time"]

OF_READING = ("temperature", "memory", "slowdown", "shutdown", "memory_slowdown", "power", "utilisation", "throttle")
OF_DECISION = ("microbatch", "duty", "rest_share", "action", "reason")
COLUMNS = ("time", "step", *OF_READING, *OF_DECISION, "device")
METRICS_INTERVAL_SECONDS = 10.0  # between two rows for the loggers; thermal.csv has them all
SHOWN = ("temperature", "memory", "power", "utilisation")

log = logging.getLogger(__name__)


class ThermalLog:
    """Writes ``thermal.csv`` on the first rank, each row handed to the system at once; other ranks write nothing.

    Columns: ``time`` (s of the run's work, never falling), ``step`` (effective batches done; empty outside of
    training), ``temperature`` and ``memory`` (°C), ``slowdown``, ``shutdown`` and ``memory_slowdown`` (their limits,
    °C), ``power`` (W), ``utilisation`` (0 to 1), ``throttle`` (why the hardware is slowed down, parted by " + "),
    ``microbatch`` (clips; empty outside of training), ``duty`` (share of time that may be work), ``rest_share`` (of the
    last half minute or so), ``action``, ``reason``, and, where there are several, the ``device`` that is nearest to its
    limit. Unknown is empty. Raises InputError for a file that cannot be written.
    """

    def __init__(self, trainer: lightning.Trainer, path: Path, period: float, resume_at: float | None = None) -> None:
        """``period``: seconds between readings. Begin a new file, or with ``resume_at`` (s) keep the old one."""
        self._trainer, self._path, self._period = trainer, path, period
        self._last: Reading | None = None
        self._cause: tuple[str, int | None] = ("free", None)
        self._row_at = resume_at or 0.0
        self._metrics_at = 0.0
        self._rows = 0
        if trainer.is_global_zero:
            self._begin([] if resume_at is None else _rows(path))

    def state_dict(self) -> dict[str, Any]:
        """Return how many rows there are, and what the next ones depend on, in plain values."""
        last = None if self._last is None else asdict(self._last)
        return {
            "rows": self._rows,
            "last": last,
            "cause": list(self._cause),
            "row_at": self._row_at,
            "metrics_at": self._metrics_at,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, paused: bool) -> None:
        """Keep so many rows: what came after is run, and logged, again. ``paused``: as `Governor.load_state_dict`."""
        if self._trainer.is_global_zero and state["rows"] < self._rows:
            self._file.close()
            self._begin(_rows(self._path)[: state["rows"]])
        if not paused:
            last = state["last"]
            throttle = None if last is None or last["throttle"] is None else tuple(last["throttle"])
            self._last = None if last is None else Reading(**{**last, "throttle": throttle})
            cause, clips = state["cause"]
            self._cause = cause, clips
            self._row_at, self._metrics_at = state["row_at"], state["metrics_at"]

    def _begin(self, rows: list[dict[str, str]]) -> None:
        def write(fresh: Path) -> None:
            with fresh.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)

        self._time, self._rows = float(rows[-1]["time"]) if rows else 0.0, len(rows)
        with atomic.written(self._path):
            atomic.write(self._path, write)
            self._file = self._path.open("a", newline="", encoding="utf-8")

    def write(self, time: float, **row: float | str | None) -> None:
        """Write one row."""
        self._time = max(self._time, time)  # a slow sensor's reading may be of before the last row
        row = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        with atomic.written(self._path):
            csv.DictWriter(self._file, COLUMNS).writerow({"time": round(self._time, 3), **row})
            self._file.flush()
        self._rows += 1

    def record(
        self,
        controller: ThermalController,
        readings: list[Reading],
        decision: Decision,
        rank: int | None,
        time: float | None,
    ) -> None:
        """Write a row for each reading; and one for a decision that changes what goes on, with the last reading again,
        or for silence, without. What changes goes to the loggers, too.

        ``rank``: of several, the one that took the decision by itself, at ``time`` (s); None: all together.
        """
        self._last = readings[-1] if readings else self._last
        if not self._trainer.is_global_zero:
            return
        now = controller.sampler.now() if time is None else time
        reason, changed = decision.reason, True
        if rank is None:
            before, self._cause = self._cause, (decision.cause, decision.microbatch)
            changed = self._cause != before or decision.action in {"shrink", "stop"}
        else:
            reason = f"rank {rank} by itself: {reason}"
        if changed:
            self._announce(decision, reason)
        if not (readings or changed or now - self._row_at > 2 * self._period):
            return
        known = self._last is not None and now - self._last.time <= 2 * self._period
        fitting = self._trainer.state.fn == TrainerFn.FITTING
        rows: list[tuple[float, Reading | None]] = [(reading.time, reading) for reading in readings]
        for at, seen in rows or [(now, self._last if changed and known else None)]:
            of_reading = {} if seen is None else {**vars(seen), "throttle": " + ".join(seen.throttle or ())}
            self.write(
                **{**of_reading, "time": at},
                step=self._trainer.global_step if fitting else None,
                microbatch=controller.meter.microbatch if fitting else None,
                duty=controller.governor.duty,
                rest_share=controller.meter.rest_share,
                action=decision.action,
                reason=reason,
            )
        self._row_at = now

    def after_step(self, controller: ThermalController) -> None:
        """Show the last reading in the progress bar, and log numbers every ten seconds."""
        trainer, meter, last = self._trainer, controller.meter, self._last
        if last is not None and trainer.progress_bar_callback is not None:
            bar = trainer.progress_bar_metrics
            bar["thermal/temperature"], bar["thermal/rest_share"] = last.temperature, round(meter.rest_share, 2)
        if controller.sampler.now() < self._metrics_at:
            return
        self._metrics_at = controller.sampler.now() + METRICS_INTERVAL_SECONDS
        numbers = {"microbatch": meter.microbatch, "duty": controller.governor.duty, "rest_share": meter.rest_share}
        read = {name: getattr(last, name, None) for name in SHOWN}
        metrics = {f"thermal/{key}": float(value) for key, value in (numbers | read).items() if value is not None}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)

    def close(self) -> None:
        """Close the file."""
        if self._trainer.is_global_zero:
            with suppress(OSError):  # what a full disk did not take, it was asked for before
                self._file.close()

    def _announce(self, decision: Decision, reason: str) -> None:
        """Warn of a decision, and give it to the loggers that take words. The others have its numbers."""
        if decision.cause in {"stop", "held", "blind"}:
            log.warning("Thermal: %s (%s)", decision.action, reason)
        text, step = f"{decision.action}: {reason}", self._trainer.global_step
        for logger in self._trainer.loggers:
            if isinstance(logger, MetricsCsv | CSVLogger | WandbLogger):
                logger.log_metrics({"thermal/decision": text}, step)  # type: ignore[dict-item]
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("thermal/decision", text, step)


def last_time(path: Path) -> float:
    """Read the time of the last row of a ``thermal.csv``, s; 0 where there is none."""
    return max((float(row["time"]) for row in _rows(path)), default=0.0)


def energy(path: Path) -> float | None:
    """Integrate the power in a ``thermal.csv``, Wh; between two readings it is taken to change steadily.

    None where no reading has it, or where there are several devices, of which only the hottest is there.
    """
    rows = [row for row in _rows(path) if row["power"]]
    if not rows or any(row["device"] for row in rows):
        return None
    times, watts = (np.array([float(row[name]) for row in rows]) for name in ("time", "power"))
    return float(np.trapezoid(watts, times)) / 3600


def _rows(path: Path) -> list[dict[str, str]]:
    """Read the whole rows of a ``thermal.csv``, but for the half row of a killed run."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if _whole(row)]


def _whole(row: dict[str, str]) -> bool:
    try:
        return math.isfinite(float(row["time"])) and row["reason"] is not None
    except (KeyError, TypeError, ValueError):
        return False
