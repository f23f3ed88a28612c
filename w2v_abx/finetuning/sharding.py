"""What cannot be done where each process holds a part of the weights."""

import lightning
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from w2v_abx.errors import InputError

__all__ = ["refuse_shards"]


def refuse_shards(trainer: lightning.Trainer, name: str) -> None:
    """Raise InputError where the trainer shards the weights, of which the callback ``name`` needs whole ones."""
    if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
        raise InputError(
            f"callbacks={name} needs whole weights, and trainer.strategy shards them; leave it out, or take ddp"
        )
