"""Record decisions and the readings behind them: in thermal.csv, for the loggers, and as warnings."""

import logging
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from w2v_abx.thermal.controller import ThermalController
from w2v_abx.thermal.governor import Decision
from w2v_abx.thermal.log import COLUMNS, ThermalLog
from w2v_abx.thermal.sensor import Reading
from w2v_abx.training.saving.metrics import MetricsCsv

__all__ = ["DecisionRecorder"]

METRICS_INTERVAL_SECONDS = 10.0  # between two rows for the loggers; thermal.csv has them all
SHOWN = ("temperature", "memory", "power", "utilisation")

log = logging.getLogger(__name__)


class DecisionRecorder:
    """Of one trainer. The first rank writes; the others know the last reading."""

    def __init__(
        self, trainer: lightning.Trainer, path: Path, period: float, began: float, resume_at: float | None
    ) -> None:
        """``period``: seconds between readings. ``began``: second at which the run goes on. ``resume_at``: see
        `ThermalLog`."""
        self._trainer, self._period = trainer, period
        self._csv = ThermalLog(path, resume_at) if trainer.is_global_zero else None
        self._last: Reading | None = None
        self._kind: tuple[str, int | None] = ("free", None)
        self._row_at = began
        self._metrics_at = 0.0

    def record(
        self,
        controller: ThermalController,
        readings: list[Reading],
        decision: Decision,
        rank: int | None,
        time: float | None,
    ) -> None:
        """Write a row for each reading; and one for a decision that changes what goes on, with the last reading again,
        or for silence, without. What changes goes to the loggers, too. ``rank``: of several, the one that took the
        decision by itself, at ``time`` (s); None: all together."""
        if readings:
            self._last = readings[-1]
        if not self._trainer.is_global_zero:
            return
        now = controller.clock.now() if time is None else time
        reason, changed = decision.reason, True
        if rank is None:
            kind = (decision.cause, decision.microbatch)
            changed, self._kind = kind != self._kind or decision.action in {"shrink", "stop"}, kind
        else:
            reason = f"rank {rank} by itself: {reason}"
        if changed:
            if decision.cause in {"stop", "held", "blind"}:
                log.warning("Thermal: %s (%s)", decision.action, reason)
            self._log_text(f"{decision.action}: {reason}")
        if not (readings or changed or now - self._row_at > 2 * self._period):
            return
        known = self._last is not None and now - self._last.time <= 2 * self._period
        fitting = self._trainer.state.fn == TrainerFn.FITTING
        rows: list[Reading | None] = [*readings] or [self._last if changed and known else None]
        assert self._csv is not None
        for reading in rows:
            self._csv.write(
                **({} if reading is None else _columns(reading)),
                time=reading.time if readings and reading is not None else now,
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
        if controller.clock.now() < self._metrics_at:
            return
        self._metrics_at = controller.clock.now() + METRICS_INTERVAL_SECONDS
        numbers = {"microbatch": meter.microbatch, "duty": controller.governor.duty, "rest_share": meter.rest_share}
        read = {name: getattr(last, name, None) for name in SHOWN}
        metrics = {f"thermal/{key}": float(value) for key, value in (numbers | read).items() if value is not None}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)

    def close(self) -> None:
        """Close thermal.csv."""
        if self._csv is not None:
            self._csv.close()

    def _log_text(self, decision: str) -> None:
        """Give a decision to the loggers that take words. The others have its numbers: micro-batch and rest."""
        step = self._trainer.global_step
        for logger in self._trainer.loggers:
            if isinstance(logger, MetricsCsv | CSVLogger | WandbLogger):
                logger.log_metrics({"thermal/decision": decision}, step)  # type: ignore[dict-item]
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("thermal/decision", decision, step)


def _columns(reading: Reading) -> dict[str, Any]:
    """The columns of a reading, but for its time."""
    columns = {name: value for name, value in vars(reading).items() if name in COLUMNS and name != "time"}
    return columns | {"throttle": " + ".join(reading.throttle or ())}
