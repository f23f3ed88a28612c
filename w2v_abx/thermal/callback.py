"""The governor at work in a Lightning run."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.pytorch.trainer.states import TrainerFn

from w2v_abx import distributed
from w2v_abx.errors import InputError
from w2v_abx.microbatch import MicroBatcher, batch_size
from w2v_abx.thermal.governor import Decision, Governor
from w2v_abx.thermal.hardware import auto_sensor
from w2v_abx.thermal.keeper import Keeper
from w2v_abx.thermal.log import ThermalLog, tell
from w2v_abx.thermal.sensor import Reading, Sensor
from w2v_abx.thermal.simulated import Simulated
from w2v_abx.thermal.state import MEMORY

__all__ = ["ThermalCallback", "ThermalStop"]

TELL_EVERY = 10.0  # s between two rows for the loggers; thermal.csv has them all

log = logging.getLogger(__name__)


class ThermalStop(InputError):
    """The run stopped to protect the device; ``checkpoint`` is where to go on from once it is cool. None: nothing was
    trained."""

    def __init__(self, step: int, reason: str, checkpoint: Path | None) -> None:
        onwards = "run it again" if checkpoint is None else f"go on with resume={checkpoint}"
        super().__init__(f"Stopped after step {step} to protect the device ({reason}); once it is cool, {onwards}.")
        self.checkpoint = checkpoint


class ThermalCallback(lightning.Callback):
    """Holds the temperature of the devices that train, by resting and by smaller micro-batches.

    With an :class:`~w2v_abx.microbatch.ElasticModule` it acts before each micro-batch; with any other module, and in
    validation, testing and prediction, it acts before each batch and can only rest. Several ranks rest and shrink
    together (:mod:`w2v_abx.thermal.keeper`). A :class:`Simulated` sensor brings its own time: nothing really waits.
    On a stop, the step under way is given up, ``checkpoints/thermal-stop.ckpt`` is written in the run's folder with the
    weights of the last whole step, and ThermalStop is raised, by all ranks together.
    """

    def __init__(
        self,
        sensor: Sensor | Sequence[Sensor] | Literal["auto"] | None = "auto",
        governor: Governor | None = None,
        period: float = 1.0,
        folder: str | Path | None = None,
    ) -> None:
        """``sensor``: what to read on this rank, one or several; ``auto`` looks for the training device's own.
        ``period``: seconds between readings. ``folder``: of the run, where ``thermal.csv`` goes (None: the trainer's
        ``default_root_dir``). Raises InputError for a period that is not positive or an unknown sensor."""
        if not period > 0:
            raise InputError(f"thermal.period={period} must be a positive number of seconds.")
        several = [] if sensor in (None, "auto") else [sensor] if isinstance(sensor, Sensor) else sensor
        if isinstance(several, str) or not all(isinstance(entry, Sensor) for entry in several):
            raise InputError(f"thermal.sensor={sensor!r} is not a sensor; give auto, null, or one with its _target_.")
        self.sensor = sensor
        self.governor = governor or Governor()
        self.period = period
        self.folder = None if folder is None else Path(folder)
        self._restored: Mapping[str, Any] | None = None
        self._keeper: Keeper | None = None
        self._log: ThermalLog | None = None
        self._warned = self._told = False
        self._tell_at = 0.0

    # Lightning's hooks, in the order of a run

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Find the sensors, go on from the checkpoint, and start to read."""
        self._start(trainer)
        batcher = getattr(pl_module, "microbatches", None)
        if self._keeper is not None and isinstance(batcher, MicroBatcher):
            self._keeper.keep(batcher)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """All ranks meet here; and where there are no micro-batches, this is the place to act."""
        keeper = self._keeper
        if keeper is None:
            return
        keeper.begin()
        keeper.meet()
        if keeper.batcher is None:
            keeper.act()
        keeper.begin(None if keeper.batcher is not None else _clips_of(batch))

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A micro-batch is done."""
        if self._keeper is not None:
            self._keeper.account()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step is done; tell the loggers and the progress bar, if there is something new."""
        keeper = self._keeper
        if keeper is None:
            return
        keeper.account()
        if not self._told and self._last is not None and trainer.progress_bar_callback is not None:
            self._told = True
            bar = trainer.progress_bar_metrics
            bar["thermal/temperature"], bar["thermal/rest_share"] = self._last.temperature, round(keeper.rest_share, 2)
        if keeper.clock.now() >= self._tell_at:
            self._tell_at = keeper.clock.now() + TELL_EVERY
            numbers = {"microbatch": keeper.microbatch, "duty": self.governor.duty, "rest_share": keeper.rest_share}
            seen = {name: getattr(self._last, name, None) for name in ("temperature", "memory", "power", "utilisation")}
            told = {f"thermal/{key}": float(value) for key, value in (numbers | seen).items() if value is not None}
            for logger in trainer.loggers:
                logger.log_metrics(told, trainer.global_step)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._start(trainer)

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._start(trainer)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._start(trainer)

    def on_validation_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Validation heats, too."""
        if self._keeper is not None:
            self._keeper.begin()
            self._keeper.act()
            self._keeper.begin(_clips_of(batch))

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._keeper is not None:
            self._keeper.account()

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

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
        if self._keeper is None:
            return dict(self._restored or {})
        state: dict[str, Any] = {"governor": self.governor.state_dict(), "elapsed": self._keeper.clock.now()}
        if self._keeper.plant is not None:
            state["plant"] = self._keeper.plant.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the fit starts, when the sensor is known."""
        self._restored = state_dict or None

    # The work

    def _start(self, trainer: lightning.Trainer) -> None:
        """Read and decide from here on, unless that is so already."""
        if self._keeper is not None:
            return
        if trainer.world_size != distributed.world_size():
            raise InputError(f"thermal control needs torch.distributed for {trainer.world_size} ranks; set thermal=off")
        device = trainer.strategy.root_device
        given = auto_sensor(device) if isinstance(self.sensor, str) else self.sensor
        sensors = [given] if isinstance(given, Sensor) else list(given or ())
        if not sensors and not self._warned:
            self._warned = True
            warnings.warn(f"No temperature sensor for {device} was found: it is not protected.", stacklevel=3)
        if not any(distributed.gather(len(sensors))):
            return
        named = {f"device {number}" if len(sensors) > 1 else "": sensor for number, sensor in enumerate(sensors)}
        restored, began = self._restored, None
        if restored is not None:
            began = float(restored["elapsed"])
            self.governor.load_state_dict(restored["governor"])
            for sensor in sensors:
                if "plant" in restored and isinstance(sensor, Simulated):
                    sensor.load_state_dict(restored["plant"])
        self._trainer = trainer
        self._last: Reading | None = None
        self._told, self._tell_at = False, 0.0
        self._kind: tuple[str, int | None] = ("free", None)
        self._row_at = began or 0.0
        self._keeper = Keeper(
            named, self.governor, device, self.period, self._record, rank=trainer.global_rank, began=began or 0.0
        )
        fresh = trainer.state.fn == TrainerFn.FITTING
        if trainer.is_global_zero and (fresh or began is not None):
            folder = self.folder or Path(trainer.default_root_dir)
            self._log = ThermalLog(folder / "thermal.csv", None if began is None else self._keeper.clock.now())

    def _record(self, readings: list[Reading], decision: Decision) -> None:
        """A row for each reading of the device that is nearest to its limit; and one without a temperature for a
        decision that changes what goes on, or for silence. What changes goes to the loggers, too."""
        keeper = self._keeper
        assert keeper is not None
        device = (self.governor.state.hottest or "").removesuffix(MEMORY)
        readings = [reading for reading in readings if reading.device == device]
        if readings:
            self._last, self._told = readings[-1], False
        kind = (decision.cause, decision.microbatch)
        changed, self._kind = kind != self._kind or decision.action in {"shrink", "stop"}, kind
        now, step = keeper.clock.now(), self._trainer.global_step
        if changed:
            if decision.cause in {"stop", "silent"}:
                log.warning("Thermal: %s (%s)", decision.action, decision.reason)
            if self._trainer.is_global_zero:
                tell(self._trainer.loggers, step, f"{decision.action}: {decision.reason}")
        if self._log is not None and (readings or changed or now - self._row_at > 2 * self.period):
            rows: list[Reading | None] = [*readings] or [None]
            for reading in rows:
                self._log.write(
                    **({"time": now} if reading is None else _columns(reading)),
                    step=step,
                    microbatch=keeper.microbatch,
                    duty=self.governor.duty,
                    rest_share=keeper.rest_share,
                    action=decision.action,
                    reason=decision.reason,
                )
            self._row_at = now
        if decision.action == "stop":
            self._stop(decision.reason)

    def _stop(self, reason: str) -> None:
        trainer, checkpoint = self._trainer, None
        if trainer.state.fn == TrainerFn.FITTING:
            folder = (self.folder or Path(trainer.default_root_dir)) / "checkpoints"
            checkpoint, part = folder / "thermal-stop.ckpt", folder / ".thermal-stop.ckpt.part"
            trainer.save_checkpoint(part, weights_only=False)
            if trainer.is_global_zero:
                part.replace(checkpoint)
        raise ThermalStop(trainer.global_step, reason, checkpoint)

    def _close(self) -> None:
        if self._keeper is not None:
            self._restored = self.state_dict()
            self._keeper.close()
        if self._log is not None:
            self._log.close()
        self._keeper = self._log = None


def _clips_of(batch: Any) -> int:
    return batch_size(batch) if isinstance(batch, dict) else 1


def _columns(reading: Reading) -> dict[str, Any]:
    """What a row tells of a reading."""
    names = ("time", "temperature", "memory", "power", "utilisation", "device")
    return {name: getattr(reading, name) for name in names} | {"throttle": " + ".join(reading.throttle or ())}
