"""The governor at work in a Lightning run: reads, decides and acts between micro-batches."""

import logging
import math
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning
import torch

from w2v_abx.errors import InputError
from w2v_abx.microbatch import MicroBatcher, batch_size
from w2v_abx.thermal.governor import Decision, Governor, Ran
from w2v_abx.thermal.hardware import auto_sensor
from w2v_abx.thermal.log import ThermalLog
from w2v_abx.thermal.sampler import PlantSampler, Sampler, ThreadSampler
from w2v_abx.thermal.sensor import Reading, Sensor
from w2v_abx.thermal.simulated import Simulated

__all__ = ["ThermalCallback", "ThermalStop"]

RECENT = 30.0  # s over which the share of rest is told; shorter ones show single rests

log = logging.getLogger(__name__)


class ThermalStop(InputError):
    """Training stopped to protect the device; ``checkpoint`` is where to resume from once it is cool."""

    def __init__(self, step: int, reason: str, checkpoint: Path) -> None:
        super().__init__(
            f"Training stopped after step {step} to protect the device ({reason}); resume from {checkpoint}."
        )
        self.checkpoint = checkpoint


class ThermalCallback(lightning.Callback):
    """Holds the temperature of the device that trains, by resting and by smaller micro-batches.

    With an :class:`~w2v_abx.microbatch.ElasticModule` it acts before each micro-batch; with any other module it acts
    before each batch and can only rest. A :class:`Simulated` sensor brings its own time: nothing really waits.
    On a stop, the step under way is given up, ``checkpoints/thermal-stop.ckpt`` is written in the run's folder with the
    weights of the last whole step, and ThermalStop is raised.
    """

    def __init__(
        self,
        sensor: Sensor | Literal["auto"] | None = "auto",
        governor: Governor | None = None,
        period: float = 1.0,
        folder: str | Path | None = None,
    ) -> None:
        """``sensor``: what to read; ``auto`` looks for the training device's own. ``period``: seconds between readings.
        ``folder``: of the run, where ``thermal.csv`` goes (None: the trainer's ``default_root_dir``).
        Raises InputError for a period that is not positive or an unknown sensor."""
        if not period > 0:
            raise InputError(f"thermal.period={period} must be a positive number of seconds.")
        if isinstance(sensor, str) and sensor != "auto":
            raise InputError(f"thermal.sensor={sensor!r} is not a sensor; give auto, null, or one with its _target_.")
        self.sensor = sensor
        self.governor = governor or Governor()
        self.period = period
        self.folder = None if folder is None else Path(folder)
        self._restored: Mapping[str, Any] | None = None
        self._sampler: Sampler | None = None
        self._log: ThermalLog | None = None
        self._batcher: MicroBatcher | None = None

    # Lightning's hooks, in the order of a run

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Find the sensor, go on from the checkpoint, and start to read."""
        device = trainer.strategy.root_device
        sensor = auto_sensor(device) if self.sensor == "auto" else self.sensor
        if sensor is None or isinstance(sensor, str):
            warnings.warn(f"No temperature sensor for {device} was found: training is not protected.", stacklevel=2)
            return
        if trainer.world_size > 1:
            # Ranks that rest and shrink each on their own would wait for each other for ever.
            raise InputError("Thermal control works in one process; take thermal=off or trainer.devices=1.")
        self._trainer, self._device = trainer, device
        self._plant = sensor if isinstance(sensor, Simulated) else None
        restored, self._restored = self._restored, None
        began = 0.0
        if restored is not None:
            began = float(restored["elapsed"])
            self.governor.load_state_dict(restored["governor"])
            if self._plant is not None and "plant" in restored:
                self._plant.load_state_dict(restored["plant"])
        self._epoch = time.monotonic() - began
        self._busy = self._recent_busy = self._recent_rested = 0.0
        self._row_at, self._mark = self._now(), self._now()
        self._clips = self._total = 1
        self._ran = False
        self._last: Reading | None = None
        self._failing = False
        self._alarm: str | None = None
        if trainer.is_global_zero:
            folder = self.folder or Path(trainer.default_root_dir)
            self._log = ThermalLog(folder / "thermal.csv", None if restored is None else self._now())
        batcher = getattr(pl_module, "microbatches", None)
        if isinstance(batcher, MicroBatcher):
            self._batcher = batcher
            batcher.limit("heat", self.governor.state.microbatch)
            batcher.hooks.append(self._act)
        self._sampler = (
            PlantSampler(self._plant, self.period) if self._plant else ThreadSampler(sensor, self._now, self.period)
        )

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Work counts from here: waiting for data and validating are not the micro-batches' doing."""
        if self._sampler is None:
            return
        self._mark = self._now()
        if self._batcher is None:
            self._clips = self._total = self._clips_of(batch)
            self._act()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The last micro-batch is done; tell the loggers and the progress bar."""
        if self._sampler is None:
            return
        self._account()
        if self._last is not None:
            pl_module.log("thermal/temperature", self._last.temperature, prog_bar=True, batch_size=1)
            if self._last.power is not None:
                pl_module.log("thermal/power", self._last.power, batch_size=1)
        pl_module.log("thermal/microbatch", float(self._microbatch()), batch_size=1)
        pl_module.log("thermal/rest_share", self._rest_share(), batch_size=1)

    def on_validation_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Validation heats, too."""
        if self._sampler is None:
            return
        self._mark = self._now()
        self._act()
        self._clips, self._ran = self._clips_of(batch), True

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Book the batch."""
        if self._sampler is not None:
            self._account()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """A run that fails leaves no thread behind."""
        self._close()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """End the thread and the file."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the governor's memory, the seconds trained, and a simulated device's heat."""
        if self._sampler is None:
            return {}
        state: dict[str, Any] = {"governor": self.governor.state_dict(), "elapsed": self._now()}
        if self._plant is not None:
            state["plant"] = self._plant.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the fit starts, when the sensor is known."""
        self._restored = state_dict or None

    # The work

    def _now(self) -> float:
        """Seconds of training, over all resumes; the simulated device's own where there is one."""
        return self._plant.now() if self._plant is not None else time.monotonic() - self._epoch

    def _sleep(self, seconds: float) -> float:
        began = self._now()
        if self._plant is not None:
            self._plant.sleep(seconds)
        else:
            time.sleep(seconds)
        return self._now() - began

    @staticmethod
    def _clips_of(batch: Any) -> int:
        return batch_size(batch) if isinstance(batch, dict) else 1

    def _microbatch(self) -> int:
        """Clips that would run at once now."""
        size = None if self._batcher is None else self._batcher.size
        return self._total if size is None else min(size, self._total)

    def _rest_share(self) -> float:
        return self._recent_rested / max(self._recent_busy + self._recent_rested, 1e-9)

    def _account(self) -> None:
        """Book the micro-batch that ended, if one did."""
        if self._batcher is not None and self._batcher.handed is not None:
            (self._clips, self._total), self._batcher.handed = self._batcher.handed, None
            self._ran = True
        if self._ran and self._plant is not None:
            self._plant.work(self._clips)
        elif self._ran and self._device.type == "cuda" and self.governor.state.duty < 1:
            torch.cuda.synchronize(self._device)  # kernels still queued are work, not rest; a full-duty run never waits
        self._ran = False
        self._busy += self._now() - self._mark
        self._mark = self._now()

    def _act(self) -> None:
        """Before a micro-batch: decide, and rest until the governor says run."""
        assert self._sampler is not None
        self._account()
        rested = 0.0
        while True:
            readings = self._sampler.take()
            self._tell(self._sampler.error, bool(readings))
            fading = math.exp(-(self._busy + rested) / RECENT)
            self._recent_busy = self._recent_busy * fading + self._busy
            self._recent_rested = self._recent_rested * fading + rested
            ran = Ran(self._busy, rested, self._clips, self._total)
            decision = self.governor.decide(self._now(), readings, ran)
            self._busy = 0.0
            if self._batcher is not None:
                self._batcher.limit("heat", decision.microbatch)
            self._write(readings, decision)
            if decision.action == "stop":
                self._stop(decision.reason)
            if decision.action != "rest":
                break
            rested = self._sleep(decision.rest_seconds)
        self._mark = self._now()
        self._ran = self._batcher is None

    def _tell(self, error: str | None, answered: bool) -> None:
        """Warn once when the sensor starts to fail, and once when it answers again."""
        if error is not None and not self._failing:
            warnings.warn(f"The temperature sensor fails: {error}.", stacklevel=2)
        elif self._failing and answered:
            log.warning("The temperature sensor answers again.")
        self._failing = error is not None or (self._failing and not answered)

    def _write(self, readings: list[Reading], decision: Decision) -> None:
        """A row per reading; and one without a temperature for a decision that changes something, or for silence."""
        if readings:
            self._last = readings[-1]
        changed = decision.action in {"shrink", "stop"}
        silent = self._now() - self._row_at > 2 * self.period
        if not readings and not changed and not silent:
            return
        alarm = decision.action if decision.action == "stop" or (not readings and silent) else None
        if alarm is not None and alarm != self._alarm:
            log.warning("Thermal: %s (%s)", decision.action, decision.reason)
        if readings or alarm:
            self._alarm = alarm
        rows: list[Reading | None] = [*readings] or [None]
        for reading in rows:
            if self._log is not None:
                self._log.write(
                    time=self._now() if reading is None else reading.time,
                    step=self._trainer.global_step,
                    temperature=None if reading is None else reading.temperature,
                    power=None if reading is None else reading.power,
                    microbatch=self._microbatch(),
                    rest_share=self._rest_share(),
                    action=decision.action,
                    reason=decision.reason,
                )
        self._row_at = self._now()

    def _stop(self, reason: str) -> None:
        folder = self.folder or Path(self._trainer.default_root_dir)
        checkpoint = folder / "checkpoints" / "thermal-stop.ckpt"
        part = checkpoint.with_name(".thermal-stop.ckpt.part")
        self._trainer.save_checkpoint(part)
        if self._trainer.is_global_zero:
            os.replace(part, checkpoint)  # noqa: PTH105
        raise ThermalStop(self._trainer.global_step, reason, checkpoint)

    def _close(self) -> None:
        if self._batcher is not None and self._act in self._batcher.hooks:
            self._batcher.hooks.remove(self._act)
        if self._sampler is not None:
            self._sampler.close()
        if self._log is not None:
            self._log.close()
        self._sampler = self._log = self._batcher = None
