"""What can be seen to be wrong with a training before its first step, and before the hours of work before that."""

import warnings
from pathlib import Path
from typing import Any

import lightning
from hydra.utils import instantiate
from omegaconf import DictConfig

from w2v_abx.data import ShardDataModule
from w2v_abx.data.dataset import ShardDataset
from w2v_abx.data.noise import NoiseSetting
from w2v_abx.data.order import FixedOrder
from w2v_abx.data.settings import DataSettings
from w2v_abx.errors import InputError
from w2v_abx.heads.head import CategoryHead
from w2v_abx.runs import AUTO
from w2v_abx.system.checks import choice
from w2v_abx.training.objective import Objective
from w2v_abx.training.saving import Checkpoints
from w2v_abx.training.saving.files import read

__all__ = ["check_clips", "check_settings"]

SHOWN_SPEAKERS = 5
MONITOR = "callbacks.checkpoints.monitor"
FALLING = ("loss", "per", "cer", "wer", "pfer")  # metrics that are the better the lower, after their head's name


def check_settings(config: DictConfig, trainer: lightning.Trainer) -> None:
    """Raise InputError for what does not go together, or is not there, whatever the clips are."""
    DataSettings.of(config.data)
    NoiseSetting.of(config)
    if config.data.batch_seconds is None and config.data.batch_size % trainer.world_size:
        raise InputError(
            f"data.batch_size={config.data.batch_size} is that of all processes together, and must be a multiple of "
            f"their number, {trainer.world_size}"
        )
    for group in (config.optimizer, config.weighting, config.microbatch, config.objective.get("masking")):
        instantiate(group)  # which looks at their values
    if (monitor := _monitored(trainer)[0]) is not None and trainer.limit_val_batches == 0:
        raise InputError(f"{MONITOR}={monitor} is logged by a validation, and trainer.limit_val_batches=0 leaves none")
    if config.resume not in (None, AUTO):
        read(Path(config.resume))


def check_clips(trainer: lightning.Trainer, data: ShardDataModule, objective: Objective) -> None:
    """Raise InputError for clips that cannot be divided into batches, or of which a head cannot learn.

    Shards on this machine that are not as long as their index says, and splits that there are not, show here, too.
    """
    data.trainer = trainer
    dataset = data.train_dataloader().dataset
    order, clips = dataset.order, dataset.corpora[0].units.shape[1]
    if isinstance(order, FixedOrder) and (units := int(order.sizes(0)[0].sum())) < order.batch_size:
        raise InputError(
            f"data.batch_size={data.settings.batch_size} is more than the {units * clips} clips of an epoch in "
            f"{data.place.name()}: lower it, or prepare more clips"
        )
    if objective.validates:
        data.val_dataloader()
    _check_monitor(trainer, objective)
    _check_speakers(data, objective)
    if data.settings.max_clips is not None:
        _check_heads(data, dataset, objective)


def _monitored(trainer: lightning.Trainer) -> tuple[str | None, str]:
    """Find the metric that chooses the best checkpoints, and whether the highest or the lowest is the best."""
    callbacks = [callback for callback in trainer.callbacks if isinstance(callback, Checkpoints)]  # type: ignore[attr-defined]
    return (callbacks[0].monitor, callbacks[0].mode) if callbacks else (None, "")


def _check_monitor(trainer: lightning.Trainer, objective: Objective) -> None:
    monitor, mode = _monitored(trainer)
    if monitor is None:
        return
    if not objective.validates:
        raise InputError(f"{MONITOR}={monitor} is logged by a validation, and the corpus has no split 'valid'")
    heads: Any = objective.heads.values()
    if monitor.startswith("valid/") and all(head.label is not None for head in heads):
        logged = [f"valid/{head.name}_{metric}" for head in heads for metric in ("loss", *head.logged)]
        choice(MONITOR, monitor, ["valid/loss", *logged])
    if mode == "max" and monitor.split("/")[-1].split("_")[-1] in FALLING:
        raise InputError(f"{MONITOR}={monitor} is the better the lower: set callbacks.checkpoints.mode=min")


def _check_speakers(data: ShardDataModule, objective: Objective) -> None:
    """Warn of speakers on both sides of a split, whom a head on anything but speakers should not know."""
    heads: Any = objective.heads.values()
    rated = [head.name for head in heads if head.label not in (None, "speaker")]
    for split in ("valid", "test"):
        if rated and (shared := data.shared_speakers(split)):
            more = ", …" if len(shared) > SHOWN_SPEAKERS else ""
            warnings.warn(
                f"of {len(shared)} speakers there are clips to train on and clips in {split} "
                f"({', '.join(shared[:SHOWN_SPEAKERS])}{more}): what {', '.join(rated)} reach there holds for speakers "
                "that they know; split by speaker if it is to hold for others",
                stacklevel=2,
            )


def _check_heads(data: ShardDataModule, dataset: ShardDataset, objective: Objective) -> None:
    """Check that the clips which ``data.max_clips`` leaves carry a head's categories: those of all training clips."""
    for head in objective.heads.values():
        if not isinstance(head, CategoryHead):
            continue
        carried = {
            category
            for corpus in dataset.corpora
            if corpus.labelled
            for categories in corpus.index.categories(str(head.label))[1]
            for category in categories
        }
        missing = sorted(set(filter(head.category, data.counts(str(head.label)))) - carried)
        if carried and missing:  # labels with times are not looked into
            raise InputError(
                f"no training clip of the data.max_clips={data.settings.max_clips} carries {', '.join(missing)}, of "
                f"which the head {head.name!r} is to learn: raise data.max_clips"
            )
