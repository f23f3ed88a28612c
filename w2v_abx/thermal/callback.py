"""The thermal control of a Lightning run."""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn

from w2v_abx.data.batch import Batch
from w2v_abx.distributed import collectives as distributed
from w2v_abx.errors import InputError
from w2v_abx.system.checks import number
from w2v_abx.thermal.controller import ThermalController
from w2v_abx.thermal.governor.decision import Decision
from w2v_abx.thermal.governor.governor import Governor
from w2v_abx.thermal.governor.settings import GovernorSettings
from w2v_abx.thermal.log import ThermalLog, energy, last_time
from w2v_abx.thermal.sensors import auto_sensor
from w2v_abx.thermal.sensors.sensor import Reading, Sensor, SensorError
from w2v_abx.thermal.sensors.simulated import Simulated
from w2v_abx.thermal.work import Throttle
from w2v_abx.training.saving.files import save_together

__all__ = ["ThermalCallback", "ThermalStop"]

log = logging.getLogger(__name__)


class ThermalStop(InputError):
    """The run stopped to protect the device; ``checkpoint`` is where to go on from once it is cool. None: nothing was
    trained."""

    exit_status = 76

    def __init__(self, step: int, reason: str, checkpoint: Path | None) -> None:
        onwards = "run it again" if checkpoint is None else f"go on with resume={checkpoint}"
        super().__init__(f"Stopped after step {step} to protect the device ({reason}); once it is cool, {onwards}.")
        self.checkpoint = checkpoint


class ThermalCallback(lightning.Callback):
    """Holds the temperature of the devices that train, by resting and by smaller micro-batches.

    With a module whose attribute ``microbatches`` is a `Throttle` it acts before each micro-batch; with any other
    module, and in validation, testing and prediction, it acts before each batch and can only rest. What another
    callback does outside of Lightning's loops runs under `governed`. Several ranks rest and shrink together
    (:mod:`w2v_abx.thermal.controller`). A :class:`Simulated` sensor brings its own time: nothing really waits.
    On a stop, the step under way is given up, ``checkpoints/thermal-stop.ckpt`` is written in the run's folder with the
    weights of the last whole step, and ThermalStop is raised, by all ranks together.

    One callback goes from trainer to trainer of a run, and takes along what it has learnt.
    """

    def __init__(
        self,
        sensor: Sensor | Sequence[Sensor] | Literal["auto"] | None = "auto",
        governor: GovernorSettings | None = None,
        period: float = 1.0,
        folder: str | Path | None = None,
    ) -> None:
        """``sensor``: what to read on this rank, one or several; ``auto`` looks for the training device's own.
        ``period``: seconds between readings. ``folder``: of the run, where ``thermal.csv`` goes (None: the trainer's
        ``default_root_dir``). Raises InputError for a period that is not positive, or so long that a sensor would count
        as silent between two readings, and for an unknown sensor."""
        self.governor = Governor(governor)
        half = self.governor.settings.silent_after / 2
        hint = "half of thermal.governor.silent_after is the most"
        self.period = number("thermal.period", period, above=0, below=half, unit="seconds", hint=hint)
        sensors = [] if sensor in (None, "auto") else [sensor] if isinstance(sensor, Sensor) else sensor
        if isinstance(sensors, str) or not all(isinstance(entry, Sensor) for entry in sensors):
            raise InputError(f"thermal.sensor={sensor!r} is not a sensor; give auto, null, or one with its _target_.")
        self.sensor = sensor
        self.folder = None if folder is None else Path(folder)
        self._restored: Mapping[str, Any] | None = None
        self._controller: ThermalController | None = None
        self._fresh = False  # no phase of this run is done
        self._warned = False

    # Lightning's hooks, in the order of a run

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Find the sensors, go on from the checkpoint, and start to read."""
        self._start(trainer)
        module: Any = pl_module
        module.paced = self.governed  # for callbacks that use the device outside of Lightning's loops
        throttle = getattr(pl_module, "microbatches", None)
        if self._controller is not None and isinstance(throttle, Throttle):
            self._controller.attach(throttle)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Synchronise the ranks; and where there are no micro-batches, rest."""
        if self._controller is not None:
            self._controller.before_step(_count_clips(batch))

    def on_after_backward(self, *args: Any, **kwargs: Any) -> None:
        """Measure a micro-batch, or a batch outside of training."""
        if self._controller is not None:
            self._controller.end()

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = on_after_backward

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Measure the rest of the step, and log."""
        if self._controller is not None:
            self._controller.end()
            self._log.after_step(self._controller)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start to read, unless training has."""
        self._start(trainer)

    on_test_start = on_predict_start = on_validation_start

    def on_validation_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Rest until it is time for the batch."""
        if self._controller is not None:
            self._controller.before_batch(_count_clips(batch))

    def on_validation_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Have ranks that have rested wait for each other, before their metrics do, which would not for so long."""
        if self._controller is not None:
            self._controller.synchronise()

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start
    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """End the thread and the file."""
        if self._controller is not None:
            self._restored = self.state_dict()
            self._controller.close()
            self._log.close()
        self._controller = None

    on_exception = teardown

    def state_dict(self) -> dict[str, Any]:
        """Return values that JSON holds: what the governor knows, the seconds worked, how far ``thermal.csv`` is, and
        a simulated device's heat, with all that a run needs to go on as though it had not been interrupted."""
        controller = self._controller
        if controller is None:
            return dict(self._restored or {})
        state = controller.state_dict() | {"elapsed": controller.sampler.now(), "log": self._log.state_dict()}
        plant = controller.sampler.plant
        return state if plant is None else {**state, "plant": plant.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Store it until the fit starts, when the sensor is known. Time does not go back before what this run has
        done."""
        before, self._restored = self._restored, state_dict or None
        if state_dict and before is not None and before["elapsed"] > state_dict["elapsed"]:
            own = {"elapsed": before["elapsed"], "log": before["log"]}
            self._restored = {**state_dict, **own}

    def resume(self, states: Iterable[dict[str, Any]]) -> None:
        """Go on from the latest of the states that the phases of a run ended in; without one, ``thermal.csv`` is that
        of a run that was killed before its first phase was done, and is begun anew."""
        self._restored = max(states, key=lambda state: state.get("elapsed", 0.0), default=None)
        self._fresh = self._restored is None

    def skip(self, after: dict[str, Any]) -> None:
        """Leave out work that another run has done and ended with the state ``after``: a simulated device becomes as
        hot as that, a real one stays as it is. ``thermal.csv`` has no rows of it."""
        if self.simulated:
            state = self.state_dict()
            self._restored = {**after, "log": {**after["log"], "rows": state["log"]["rows"] if state else 0}}

    def energy(self) -> float | None:
        """Return the energy of the device in this run, Wh; None where it is not known, or simulated."""
        return None if self.folder is None or self.simulated else energy(self.folder / "thermal.csv")

    @property
    def simulated(self) -> bool:
        """Whether the device, or one of them, is simulated."""
        sensors = self.sensor if isinstance(self.sensor, Sequence) else [self.sensor]
        return any(isinstance(sensor, Simulated) for sensor in sensors)

    @contextmanager
    def governed(self) -> Iterator[Callable[[int], None]]:
        """Govern work outside of Lightning's loops: the value is to be called before each batch, with its clips.

        A collective at its end, where ranks wait for those that have rested more, however many batches each had. A stop
        waits for the next step, where what is saved is as it was trained.
        """

        def pause(clips: int) -> None:
            if self._controller is not None:
                self._controller.before_batch(clips, stops=False)

        failure = None
        try:
            yield pause
        except Exception as error:  # which the other ranks know nothing of yet, and wait
            failure = error
        if self._controller is not None:
            self._controller.synchronise(stops=False)
        if failure is not None:
            raise failure

    def _start(self, trainer: lightning.Trainer) -> None:
        """Read and decide from here on, unless that is so already."""
        if self._controller is not None:
            return
        if trainer.world_size != distributed.world_size():
            raise InputError(f"thermal control needs torch.distributed for {trainer.world_size} ranks; set thermal=off")
        device = trainer.strategy.root_device
        sensors = self._sensors(device, warn=trainer.is_global_zero)
        if not any(distributed.gather(len(sensors))):
            return
        named = {f"device {number}" if len(sensors) > 1 else "": sensor for number, sensor in enumerate(sensors)}
        restored, path = self._restored, (self.folder or Path(trainer.default_root_dir)) / "thermal.csv"
        fresh = restored is None and (self._fresh or trainer.state.fn == TrainerFn.FITTING)
        began, paused = 0.0, True
        if restored is not None:
            began = float(restored["elapsed"])
            simulated = len(sensors) == 1 and isinstance(sensors[0], Simulated) and "plant" in restored
            paused = not simulated or restored["plant"]["clock"] != began or restored["governor"]["stopped"]
            self.governor.load_state_dict(restored["governor"], paused=paused)
        elif not fresh:  # of a run that has come further than training
            began = last_time(path)
        for sensor in sensors:
            if isinstance(sensor, Simulated):
                if restored is not None and "plant" in restored:
                    sensor.load_state_dict(restored["plant"])
                if began > sensor.now():
                    sensor.sleep(began - sensor.now())
        self._trainer = trainer
        self._controller = ThermalController(
            named, self.governor, device, self.period, self._record, rank=trainer.global_rank, began=began
        )
        resume_at = None if fresh else self._controller.sampler.now()
        self._log = ThermalLog(trainer, path, self.period, resume_at)
        if restored is not None:
            self._log.load_state_dict(restored["log"], paused=paused)
        if restored is not None and not paused:
            self._controller.load_state_dict(restored)

    def _sensors(self, device: torch.device, *, warn: bool) -> list[Sensor]:
        """Find the sensors of this rank; ``warn``, once, of all ranks that have none: a CPU throttles itself, and many
        show no temperature, so of these only the log of details tells."""
        found, missing = self.sensor, "thermal.sensor=null"
        if isinstance(found, str):
            try:
                found = auto_sensor(device)
            except SensorError as error:
                found, missing = None, str(error)
        sensors = [found] if isinstance(found, Sensor) else list(found or ())
        warning = None if sensors else f"No temperature sensor for {device} ({missing}): it is not protected."
        for text in dict.fromkeys(text for text in distributed.gather(warning) if text is not None):
            if warn and not self._warned and device.type == "cpu":
                log.debug(text)
            elif warn and not self._warned:
                warnings.warn(text, stacklevel=4)
        self._warned = True
        return sensors

    def _record(self, readings: list[Reading], decision: Decision, rank: int | None, time: float | None) -> None:
        """Record a decision, and stop if it says so."""
        assert self._controller is not None
        self._log.record(self._controller, readings, decision, rank, time)
        if decision.action != "stop":
            return
        trainer, checkpoint = self._trainer, None
        if trainer.state.fn == TrainerFn.FITTING:
            checkpoint = (self.folder or Path(trainer.default_root_dir)) / "checkpoints" / "thermal-stop.ckpt"
            save_together(trainer, checkpoint)
        raise ThermalStop(trainer.global_step, decision.reason, checkpoint)


def _count_clips(batch: Any) -> int:
    """Count the clips of a batch; someone's own module may have batches of another kind, which count as one."""
    return len(batch) if isinstance(batch, Batch) else 1
