"""What cannot be done where each process holds a part of the weights."""

import lightning
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from w2v_abx.errors import InputError

__all__ = ["refuse_shards"]


def refuse_shards(trainer: lightning.Trainer, name: str) -> None:
    """Raise InputError where the trainer divides the weights, of which the callback ``name`` needs whole ones."""
    if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
        raise InputError(
            f"callbacks={name} works on whole weights, which trainer=fsdp divides among processes; leave it out, or "
            f"take trainer=ddp"
        )
