"""The governor at work in a Lightning run."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn

from w2v_abx.distributed import collectives as distributed
from w2v_abx.errors import InputError
from w2v_abx.thermal.governor import Decision, Governor
from w2v_abx.thermal.hardware import auto_sensor
from w2v_abx.thermal.keeper import Keeper
from w2v_abx.thermal.log import COLUMNS, ThermalLog, last_time, tell
from w2v_abx.thermal.sensor import Reading, Sensor, SensorError
from w2v_abx.thermal.simulated import Simulated
from w2v_abx.thermal.state import MEMORY
from w2v_abx.training.microbatch import MicroBatcher, batch_size
from w2v_abx.training.saving.files import CheckpointFiles

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

    With an :class:`~w2v_abx.training.microbatch.ElasticModule` it acts before each micro-batch; with any other
    module, and in
    validation, testing and prediction, it acts before each batch and can only rest. What another callback does outside
    of Lightning's loops calls `pause` before each of its batches and `meet` afterwards. Several ranks rest and shrink
    together (:mod:`w2v_abx.thermal.keeper`). A :class:`Simulated` sensor brings its own time: nothing really waits.
    On a stop, the step under way is given up, ``checkpoints/thermal-stop.ckpt`` is written in the run's folder with the
    weights of the last whole step, and ThermalStop is raised, by all ranks together.

    One callback goes from trainer to trainer of a run, and takes along what it has learnt.
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
        ``default_root_dir``). Raises InputError for a period that is not positive, or so long that a sensor would count
        as silent between two readings, and for an unknown sensor."""
        governor = governor or Governor()
        number = isinstance(period, int | float) and not isinstance(period, bool)
        if not (number and 0 < period < governor.silent_after / 2):
            raise InputError(
                f"thermal.period={period!r} must be a number of seconds, above 0 and below half of "
                f"thermal.governor.silent_after={governor.silent_after}."
            )
        several = [] if sensor in (None, "auto") else [sensor] if isinstance(sensor, Sensor) else sensor
        if isinstance(several, str) or not all(isinstance(entry, Sensor) for entry in several):
            raise InputError(f"thermal.sensor={sensor!r} is not a sensor; give auto, null, or one with its _target_.")
        self.sensor = sensor
        self.governor = governor
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
        keeper.meet(at_once=False)
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
            self._keeper.batch(_clips_of(batch))

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

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Here ranks that have rested wait for each other, before their metrics do, which would not for so long."""
        if self._keeper is not None:
            self._keeper.account()
            self._keeper.meet()

    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end

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
        """Kept until the fit starts, when the sensor is known. Time does not go back before what this run has done."""
        began = (self._restored or {}).get("elapsed", 0.0)
        self._restored = {**state_dict, "elapsed": max(began, state_dict["elapsed"])} if state_dict else None

    # Work outside of Lightning's loops

    def pause(self, clips: int) -> None:
        """Before a batch of so many clips: rest until it is time for it. A stop waits for the next step, where what is
        saved is as it was trained."""
        if self._keeper is not None:
            self._keeper.batch(clips, stops=False)

    def meet(self) -> None:
        """After the batches, by all ranks, however many each had: wait for those that have rested more, and decide
        together."""
        if self._keeper is not None:
            self._keeper.account()
            self._keeper.meet(stops=False)

    # The work

    def _start(self, trainer: lightning.Trainer) -> None:
        """Read and decide from here on, unless that is so already."""
        if self._keeper is not None:
            return
        if trainer.world_size != distributed.world_size():
            raise InputError(f"thermal control needs torch.distributed for {trainer.world_size} ranks; set thermal=off")
        device = trainer.strategy.root_device
        sensors = self._sensors(device, trainer.is_global_zero)
        if not any(distributed.gather(len(sensors))):
            return
        named = {f"device {number}" if len(sensors) > 1 else "": sensor for number, sensor in enumerate(sensors)}
        restored, path = self._restored, (self.folder or Path(trainer.default_root_dir)) / "thermal.csv"
        fresh = restored is None and trainer.state.fn == TrainerFn.FITTING
        began = 0.0
        if restored is not None:
            began = float(restored["elapsed"])
            self.governor.load_state_dict(restored["governor"])
        elif not fresh:  # of a run that has come further than training
            began = last_time(path) or 0.0
        for sensor in sensors:
            if isinstance(sensor, Simulated):
                if restored is not None and "plant" in restored:
                    sensor.load_state_dict(restored["plant"])
                sensor.sleep(max(0.0, began - sensor.now()))
        self._trainer = trainer
        self._last: Reading | None = None
        self._told, self._tell_at = False, 0.0
        self._kind: tuple[str, int | None] = ("free", None)
        self._row_at = began
        self._keeper = Keeper(
            named, self.governor, device, self.period, self._record, rank=trainer.global_rank, began=began
        )
        if trainer.is_global_zero:
            self._log = ThermalLog(path, None if fresh else self._keeper.clock.now())

    def _sensors(self, device: torch.device, tells: bool) -> list[Sensor]:
        """Of this rank. The rank that ``tells`` warns of all that have none, once."""
        found, missing = self.sensor, "thermal.sensor=null"
        if isinstance(found, str):
            try:
                found = auto_sensor(device)
            except SensorError as error:
                found, missing = None, str(error)
        sensors = [found] if isinstance(found, Sensor) else list(found or ())
        told = None if sensors else f"No temperature sensor for {device} ({missing}): it is not protected."
        for text in dict.fromkeys(text for text in distributed.gather(told) if text is not None):
            if tells and not self._warned:
                warnings.warn(text, stacklevel=4)
        self._warned = True
        return sensors

    def _record(
        self, readings: list[Reading], decision: Decision, rank: int | None = None, time: float | None = None
    ) -> None:
        """A row for each reading of the device that is nearest to its limit; and one for a decision that changes what
        goes on, with the last reading again, or for silence, without. What changes goes to the loggers, too."""
        keeper = self._keeper
        assert keeper is not None
        device = (self.governor.state.hottest or "").removesuffix(MEMORY)
        readings = [reading for reading in readings if reading.device == device]
        if readings:
            self._last, self._told = readings[-1], False
        now = keeper.clock.now() if time is None else time
        fitting = self._trainer.state.fn == TrainerFn.FITTING
        reason, changed = decision.reason, True
        if rank is None:
            kind = (decision.cause, decision.microbatch)
            changed, self._kind = kind != self._kind or decision.action in {"shrink", "stop"}, kind
        else:
            reason = f"rank {rank} by itself: {reason}"
        if changed and self._trainer.is_global_zero:
            if decision.cause in {"stop", "held", "blind"}:
                log.warning("Thermal: %s (%s)", decision.action, reason)
            tell(self._trainer.loggers, self._trainer.global_step, f"{decision.action}: {reason}")
        if self._log is not None and (readings or changed or now - self._row_at > 2 * self.period):
            known = self._last is not None and now - self._last.time <= 2 * self.period
            rows: list[Reading | None] = [*readings] or [self._last if changed and known else None]
            for reading in rows:
                self._log.write(
                    **({} if reading is None else _columns(reading)),
                    time=reading.time if readings and reading is not None else now,
                    step=self._trainer.global_step if fitting else None,
                    microbatch=keeper.microbatch if fitting else None,
                    duty=self.governor.duty,
                    rest_share=keeper.rest_share,
                    action=decision.action,
                    reason=reason,
                )
            self._row_at = now
        if decision.action == "stop":
            self._stop(decision.reason)

    def _stop(self, reason: str) -> None:
        trainer, checkpoint = self._trainer, None
        if trainer.state.fn == TrainerFn.FITTING:
            checkpoint = (self.folder or Path(trainer.default_root_dir)) / "checkpoints" / "thermal-stop.ckpt"
            files = trainer.strategy.checkpoint_io
            if not isinstance(files, CheckpointFiles):
                files = trainer.strategy.checkpoint_io = CheckpointFiles()
            with files.collected() as errors:
                trainer.save_checkpoint(checkpoint, weights_only=False)
            distributed.agree(errors[0] if errors else None)
        raise ThermalStop(trainer.global_step, reason, checkpoint)

    def _close(self) -> None:
        if self._keeper is not None:
            self._restored = self.state_dict()
            self._keeper.close()
        if self._log is not None:
            self._log.close()
        self._keeper = self._log = None


def _clips_of(batch: Any) -> int:
    """1 where they cannot be counted: a batch that could not be read is its module's affair."""
    try:
        return batch_size(batch) if isinstance(batch, dict) else 1
    except InputError:
        return 1


def _columns(reading: Reading) -> dict[str, Any]:
    """What a row tells of a reading, but for its time."""
    told = {name: value for name, value in vars(reading).items() if name in COLUMNS and name != "time"}
    return told | {"throttle": " + ".join(reading.throttle or ())}
