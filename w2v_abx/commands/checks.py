"""What can be seen to be wrong with a training before its first step, and before the hours of work before that."""

from typing import Any

import lightning
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig

from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.objectives.supervised import Supervised
from w2v_abx.order import Order
from w2v_abx.sharding import Sharded, check_shardable

__all__ = ["check_clips", "check_settings"]


def check_settings(config: DictConfig, trainer: lightning.Trainer, encoder: Any) -> None:
    """Raise InputError for what does not go together, whatever the clips are."""
    if config.data.batch_seconds is None and config.data.batch_size % trainer.world_size:
        raise InputError(
            f"data.batch_size={config.data.batch_size} is that of all processes together, and must be a multiple of "
            f"their number, {trainer.world_size}"
        )
    if isinstance(trainer.strategy, Sharded):
        check_shardable(encoder)


def check_clips(trainer: lightning.Trainer, data: ShardDataModule, objective: lightning.LightningModule) -> None:
    """Raise InputError for clips that cannot be divided into batches, or of which a head cannot learn.

    Shards on this machine that are not as long as their index says, and splits that there are not, show here, too.
    """
    data.trainer = trainer
    order = data.train_dataloader().dataset.order
    if isinstance(order, Order) and (clips := int(order.quotas(0)[0].sum())) < order.batch_size:
        raise InputError(
            f"data.batch_size={order.batch_size} is more than the {clips} clips of an epoch in {data.place.name()}: "
            f"lower it, or prepare more clips"
        )
    if is_overridden("validation_step", objective):
        data.val_dataloader()
    if isinstance(objective, Supervised) and data.max_clips is not None:
        _check_heads(data, objective)


def _check_heads(data: ShardDataModule, objective: Supervised) -> None:
    """Of clips that ``data.max_clips`` leaves: a head's categories are those of all training clips."""
    for name, head in objective.heads.items():
        carried = {
            category
            for corpus in data.train_dataloader().dataset.corpora
            if corpus.labelled
            for categories in corpus.index.categories(str(head.target))[1]
            for category in categories
        }
        missing = sorted(set(head.categories) - carried)  # type: ignore[arg-type]
        if carried and missing:  # labels with times are not looked into
            raise InputError(
                f"no training clip of the data.max_clips={data.max_clips} carries {', '.join(missing)}, of which "
                f"the head {name!r} is to learn: raise data.max_clips"
            )
