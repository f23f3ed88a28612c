"""Checkpoints from which training goes on as though it had never stopped."""

from collections.abc import Sequence
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger

from w2v_abx.distributed import collectives as distributed
from w2v_abx.training.saving import randomness

__all__ = ["ExactResume", "logger_states", "restore_loggers"]

KEY = "w2v_abx"  # of what is added to a checkpoint
STEP, VALIDATION, END = "step", "validation", "end"


class ExactResume(lightning.Callback):
    """Adds to every checkpoint what Lightning leaves out, and has its loops begin exactly there.

    That is: the random states of every rank; where the loggers were; and the place, which is the beginning of a step (a
    checkpoint written inside the step does without what of it was done), the beginning of a validation, or the end.
    Lightning's loops, begun again from their own counts, count a logged step too many or too few after most of these
    places, skip a validation that was under way, and begin an epoch's first batch differently with ``max_epochs`` and
    with ``max_steps``; so their counts are written anew when a checkpoint is loaded.

    It is to come before callbacks that draw random numbers. A checkpoint that another callback writes between two
    steps resumes as Lightning has it.

    Args:
        ended: a checkpoint of a training that its callbacks had ended (rather than its limits) is the end here, too.
    """

    def __init__(self, *, ended: bool = False) -> None:
        self.ended = ended
        self.place: str | None = None  # where we are, if that is a place to go on from
        self.updating = False  # the weights may be those of half an update
        self._states: randomness.States = {}
        self._loaded: dict[str, Any] | None = None

    # Where we are

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A schedule that asked how many steps there will be had the loader made before the checkpoint was read."""
        loop = trainer.fit_loop
        if loop.restarting and loop._combined_loader_states_to_load:
            loop._load_combined_loader_states()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._arrive(trainer, STEP)

    def on_before_optimizer_step(self, trainer: lightning.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.updating = True

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.place, self.updating = None, False

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._arrive(trainer, VALIDATION)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.place = None

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._arrive(trainer, END)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self.place, self._loaded = None, None

    def settle(self, trainer: lightning.Trainer) -> None:
        """In an epoch, while the next batch is waited for, this is the beginning of the next step."""
        loop = trainer.fit_loop.epoch_loop
        epochs: Any = trainer.fit_loop.epoch_progress.current
        total, current = loop.batch_progress.total, loop.batch_progress.current
        done = 0 < total.ready == total.completed == loop._batches_that_stepped  # its validation, too
        begun = epochs.ready > epochs.processed and current.completed < trainer.num_training_batches
        if self.place is None and done and begun:
            self._arrive(trainer, STEP)

    def _arrive(self, trainer: lightning.Trainer, place: str) -> None:
        if self._loaded is not None and self._loaded["place"] in (place, END, None):
            randomness.restore(self._loaded["random"], trainer.global_rank, trainer.strategy.root_device)
            self._loaded = None
        self._states = randomness.take(trainer.strategy.root_device)
        self.place = place

    # Checkpoints

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loop: Any = trainer.fit_loop.epoch_loop
        epochs: Any = trainer.fit_loop.epoch_progress
        states = self._states if self.place else randomness.take(trainer.strategy.root_device)
        checkpoint[KEY] = {
            "place": self.place,
            "epoch": epochs.current.processed,
            "batch": loop.batch_progress.current.processed,
            "batches": loop.batch_progress.total.processed,
            "last_batch": loop.batch_progress.is_last_batch,
            "logged_steps": loop._batches_that_stepped,
            "stopping": trainer.should_stop,
            "random": distributed.gather(randomness.written(states)),
            "loggers": logger_states(trainer.loggers),
        }

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        found = checkpoint.get(KEY)
        if found is None:
            return
        self._loaded = found
        restore_loggers(trainer.loggers, found["loggers"])
        loops = checkpoint["loops"]["fit_loop"]
        if found["place"] == STEP:
            _begin_step(loops, found, by_steps=trainer.max_steps != -1)
        elif found["place"] == VALIDATION:
            _begin_validation(loops, found)
        # What asked to stop was at work before the validation; its limits, Lightning looks at by itself.
        if found["stopping"] and (found["place"] == VALIDATION or (found["place"] == END and self.ended)):
            trainer.should_stop = True
        elif found["place"] == END and not 0 <= trainer.max_steps <= checkpoint["global_step"]:
            # It ends later now, and Lightning takes the epoch that it ended in for done.
            inside = not found["last_batch"]
            there = {"epoch": found["epoch"] - inside, "batch": found["batch"] if inside else 0}
            _begin_step(loops, {**found, **there}, by_steps=trainer.max_steps != -1)


def _counts(ready: int, completed: int | None = None, processed: int | None = None) -> dict[str, int]:
    processed = ready if processed is None else processed
    return {
        "ready": ready,
        "started": ready,
        "processed": processed,
        "completed": ready if completed is None else completed,
    }


def _begin_step(loops: dict[str, Any], found: dict[str, Any], *, by_steps: bool) -> None:
    """The counts from which Lightning's loops begin the next step, the last one and its validation being done."""
    epoch, batch, batches, logged = (found[name] for name in ("epoch", "batch", "batches", "logged_steps"))
    inside = batch > 0
    # Inside an epoch, or counting steps, Lightning takes the last batch for begun and makes up for it.
    again = inside or by_steps
    progress = _counts(epoch + 1, epoch, epoch) if inside else _counts(epoch)
    loops["epoch_progress"] = {"total": progress, "current": dict(progress)}
    loops["epoch_loop.batch_progress"] = {
        "total": _counts(batches, batches - again),
        "current": _counts(batch, batch - again),
        "is_last_batch": False,
    }
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = logged - again


def _begin_validation(loops: dict[str, Any], found: dict[str, Any]) -> None:
    """The counts from which Lightning's loops begin the validation after the last step."""
    epoch, batch = found["epoch"], found["batch"]
    progress = _counts(epoch + 1, epoch, epoch)
    loops["epoch_progress"] = {"total": progress, "current": dict(progress)}
    loops["epoch_loop.batch_progress"] = {
        "total": _counts(found["batches"]),
        "current": _counts(batch),
        "is_last_batch": found["last_batch"],
    }
    loops["epoch_loop.val_loop.batch_progress"] = {
        "total": _counts(1, 0, 0),
        "current": _counts(1, 0, 0),
        "is_last_batch": False,
    }
    for state in loops["state_dict"].get("combined_loader", []):
        if "batches" in state:  # a loader at the end of an epoch gives the beginning of the next
            state |= {"epoch": epoch, "batches": batch}


def logger_states(loggers: Sequence[Logger]) -> dict[str, Any]:
    """Where those loggers are that can go back there, by the names of their classes."""
    return {type(logger).__name__: logger.state_dict() for logger in loggers if hasattr(logger, "state_dict")}


def restore_loggers(loggers: Sequence[Logger], states: dict[str, Any]) -> None:
    """Have loggers go back to where they were."""
    for logger in loggers:
        if hasattr(logger, "load_state_dict") and type(logger).__name__ in states:
            logger.load_state_dict(states[type(logger).__name__])
