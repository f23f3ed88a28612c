"""Write checkpoints when they are due, remove old ones, and end the run when a signal has come."""

import math
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from w2v_abx.distributed import collectives as distributed
from w2v_abx.errors import InputError
from w2v_abx.system import checks, signals
from w2v_abx.training.saving.exact import STEP, VALIDATION, ExactResume
from w2v_abx.training.saving.files import CheckpointFiles, save_together

__all__ = ["Checkpoints"]


class Checkpoints(Checkpoint):
    """Write ``step-NUMBER.ckpt`` into a folder, and links the newest as ``last.ckpt`` and the best as ``best.ckpt``.

    They are written at the beginning of the next step, when all that belongs to the last one (its validation, its row
    in the logs) is done, and at the end; see `ExactResume`. When a signal has come, one is written and `Stopped`
    raised, by all ranks together; during a validation, too, where there is one rank. A step under way is done first.

    Args:
        folder: of the checkpoints.
        every_steps, every_minutes, every_epochs: how often; None: not by that.
        keep: of the newest, so many stay; older ones are removed.
        monitor: a logged metric of the validation; a checkpoint follows each validation that is among the best.
        mode: whether the best is the ``max`` or the ``min``.
        keep_best: of the best by ``monitor``, so many, beside the newest.

    Raises:
        InputError: a value out of range; a metric that is not logged; a disk that is full.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_steps: int | None = None,
        every_minutes: float | None = 10.0,
        every_epochs: int | None = 1,
        keep: int = 2,
        monitor: str | None = None,
        mode: str = "max",
        keep_best: int = 1,
    ) -> None:
        checks.whole("callbacks.checkpoints.every_steps", every_steps, 1, optional="for not by steps")
        checks.whole("callbacks.checkpoints.every_epochs", every_epochs, 1, optional="for not by epochs")
        checks.number("callbacks.checkpoints.every_minutes", every_minutes, above=0, optional="for not by time")
        checks.whole("callbacks.checkpoints.keep", keep, 1)
        checks.whole("callbacks.checkpoints.keep_best", keep_best, 0)
        checks.choice("callbacks.checkpoints.mode", mode, ("max", "min"))
        self.folder = Path(folder)
        self.every_steps, self.every_minutes, self.every_epochs = every_steps, every_minutes, every_epochs
        self.keep, self.monitor, self.mode, self.keep_best = keep, monitor, mode, keep_best
        self.saved: dict[int, float | None] = {}  # steps of the checkpoints there are, and their values by ``monitor``
        self._value: float | None = None  # of the last validation, where no checkpoint has it
        self._epoch = 0  # of the last step that began
        self._at = time.monotonic()  # the last save

    # Lightning's hooks, in the order of a run

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if not isinstance(trainer.strategy.checkpoint_io, CheckpointFiles):
            trainer.strategy.checkpoint_io = CheckpointFiles()
        if trainer.is_global_zero:
            for path in self.folder.glob(".*-*.ckpt"):  # left by a process that was killed
                path.unlink(missing_ok=True)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        signals.patience(True)
        self._at, self._epoch = time.monotonic(), trainer.current_epoch
        there = distributed.gather([step for step in self.saved if self.path(step).exists()])[0]
        self.saved = {step: self.saved[step] for step in there}
        self._tidy(trainer)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The place to save: all of the last step is done, nothing of this one."""
        minutes = (time.monotonic() - self._at) / 60
        timely = self.every_minutes is not None and minutes >= self.every_minutes
        number, timely = distributed.largest([signals.asked(), timely])  # type: ignore[assignment]
        step, epoch = trainer.global_step, trainer.current_epoch
        begun, self._epoch = epoch != self._epoch, epoch
        due = (
            timely
            or (self.every_steps is not None and step % self.every_steps == 0)
            or (self.every_epochs is not None and begun and epoch % self.every_epochs == 0)
            or self._is_among_best()
        )
        if number or (due and step):
            self._save(trainer)
        self._value = None
        if number:
            self._leave(trainer, number)

    def on_validation_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A validation may take long: it is given up, and begun again by the run that goes on."""
        number, exact = signals.asked(), _exact(trainer)
        there = exact is not None and exact.place == VALIDATION
        if number and trainer.world_size == 1 and there and not _at_last(trainer):
            self._save(trainer)
            self._leave(trainer, number)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.monitor is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value = trainer.callback_metrics.get(self.monitor)
        self._value = distributed.gather(None if value is None else float(value))[0]
        if self._value is None:
            logged = ", ".join(sorted(map(str, trainer.callback_metrics)))
            raise InputError(f"callbacks.checkpoints.monitor={self.monitor!r} is not logged; there are {logged}")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._save(trainer)
        signals.patience(False)
        signals.check()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """What came with a signal may have hit others first: what has been done by then is saved all the same."""
        exact = _exact(trainer)
        due = bool(signals.asked()) and signals.is_due_to_signal(exception)
        if due and trainer.world_size == 1 and exact is not None:
            exact.settle(trainer)
            if (exact.place == STEP and not exact.updating) or (exact.place == VALIDATION and not _at_last(trainer)):
                self._save(trainer)
        signals.patience(False)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if stage == "fit":
            signals.patience(False)

    def state_dict(self) -> dict[str, Any]:
        """Return the checkpoints there are, this one included."""
        return {"saved": dict(self.saved), "value": self._value, "monitor": self.monitor, "mode": self.mode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what a checkpoint knew of; values of another ``monitor`` say nothing of this one."""
        self.saved, self._value = dict(state_dict["saved"]), state_dict["value"]
        if (state_dict["monitor"], state_dict["mode"]) != (self.monitor, self.mode):
            self.saved, self._value = dict.fromkeys(self.saved), None

    # The work

    def path(self, step: int) -> Path:
        """Return the path of the checkpoint after so many steps."""
        return self.folder / f"step-{step:08d}.ckpt"

    def best(self) -> list[int]:
        """Return the steps of the best checkpoints, the best first; of equals, the earlier."""
        sign = -1 if self.mode == "max" else 1
        rated = {step: sign * value for step, value in self.saved.items() if value is not None and math.isfinite(value)}
        return sorted(rated, key=lambda step: (rated[step], step))[: self.keep_best]

    def _is_among_best(self) -> bool:
        """Say whether the last validation is among the best, and no checkpoint has its weights."""
        if self._value is None or not math.isfinite(self._value) or not self.keep_best:
            return False
        best = self.best()
        if len(best) < self.keep_best:
            return True
        worst = self.saved[best[-1]]
        assert worst is not None
        return self._value > worst if self.mode == "max" else self._value < worst

    def _save(self, trainer: lightning.Trainer) -> None:
        """Write a checkpoint, unless there is one of this step, then remove the old ones."""
        step = trainer.global_step
        if trainer.fast_dev_run or (step in self.saved and self._value is None):  # type: ignore[attr-defined]
            return
        before = dict(self.saved), self._value
        self.saved[step] = self.saved.get(step) if self._value is None else self._value
        self._value = None
        newest = sorted(self.saved)[-self.keep :]
        wanted = {*newest, *self.best()}
        self.saved = {step: value for step, value in self.saved.items() if step in wanted}
        try:
            save_together(trainer, self.path(step))
        except BaseException:
            self.saved, self._value = before
            raise
        self._at = time.monotonic()
        self._tidy(trainer)

    def _tidy(self, trainer: lightning.Trainer) -> None:
        """Remove the old checkpoints, and link the newest and the best."""
        if not trainer.is_global_zero or not self.saved:
            return
        newest = max(self.saved)
        for path in self.folder.glob("step-*.ckpt"):
            number = path.stem.removeprefix("step-")
            if number.isdecimal() and int(number) not in self.saved and int(number) < newest:
                trainer.strategy.remove_checkpoint(path)
        for name, steps in (("last", [newest]), ("best", self.best())):
            link = self.folder / f"{name}.ckpt"
            if not steps:
                link.unlink(missing_ok=True)
            elif self.path(steps[0]).exists():
                _link(link, self.path(steps[0]).name)

    def _leave(self, trainer: lightning.Trainer, number: int) -> None:
        raise signals.Stopped(number, f"after step {trainer.global_step}, saved in {self.path(trainer.global_step)}")


def _exact(trainer: lightning.Trainer) -> ExactResume | None:
    return next((callback for callback in trainer.callbacks if isinstance(callback, ExactResume)), None)  # type: ignore[attr-defined]


def _at_last(trainer: lightning.Trainer) -> bool:
    """Whether all steps are done, so that Lightning would not begin again for a validation alone."""
    return 0 <= trainer.max_steps <= trainer.global_step


def _link(path: Path, target: str) -> None:
    """Have ``path`` stand for its neighbour ``target`` from one moment to the next."""
    fresh = path.with_name(f".link-{path.name}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)
