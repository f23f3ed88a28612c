"""Settings of Lightning's that elastic micro-batches do not go with, or go with in another place."""

import lightning
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from w2v_abx.errors import InputError
from w2v_abx.training.microbatch.batcher import MicroBatcher

__all__ = ["check_trainer"]


def check_trainer(trainer: lightning.Trainer, batcher: MicroBatcher) -> None:
    """Raise InputError for a trainer that could not train, or would train otherwise than it says."""
    if trainer.gradient_clip_val:
        raise InputError(
            f"trainer.gradient_clip_val={trainer.gradient_clip_val} is not used here; set "
            f"optimizer.gradient_clip_norm={trainer.gradient_clip_val}"
        )
    if trainer.accumulate_grad_batches != 1 or any(
        isinstance(callback, GradientAccumulationScheduler)
        for callback in trainer.callbacks  # type: ignore[attr-defined]
    ):
        raise InputError(
            "gradients are accumulated by themselves here: leave out trainer.accumulate_grad_batches, set "
            "data.batch_size to the clips of one step, and microbatch.clips to those that run at once"
        )
    strategy = trainer.strategy
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise InputError(f"trainer.strategy={type(strategy).__name__} does not go with elastic micro-batches; take ddp")
    data = getattr(trainer, "datamodule", None)
    settings = getattr(data, "settings", None)
    clips, seconds = getattr(settings, "batch_size", None), getattr(settings, "batch_seconds", None)
    if clips is not None and seconds is None and (batcher.size or 0) > clips // trainer.world_size:
        raise InputError(
            f"microbatch.clips={batcher.size} is more than the {clips // trainer.world_size} clips that a process "
            f"has in a step: lower it, or raise data.batch_size={clips}"
        )
