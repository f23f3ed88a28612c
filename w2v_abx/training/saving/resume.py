"""What ``resume=`` means: where a run goes on, from which checkpoint, and whether it is the same run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning

from w2v_abx.errors import InputError
from w2v_abx.training.saving.files import BROKEN, find, load

__all__ = ["AUTO", "HARMLESS", "changed", "check_checkpoint", "check_same", "checkpoint_of", "read"]

AUTO = "auto"

# Keys of a configuration that a run may go on with otherwise than it began. The data module looks after the order of
# the clips by itself: inside an epoch it refuses another number of workers or processes.
HARMLESS = (
    "callbacks.checkpoints",
    "callbacks.divergence",
    "callbacks.monitor",
    "callbacks.progress",
    "data.cache",
    "data.cache_gigabytes",
    "data.num_workers",
    "logger",
    "model.gradient_checkpointing",
    "name",
    "objective.microbatch",
    "objective.microbatch_grow_after",
    "objective.microbatch_seconds",
    "paths",
    "prepare",
    "resume",
    "signals",
    "thermal",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.use_distributed_sampler",
)

OF_TRAINING = ("loops", "optimizer_states", "lr_schedulers", "pytorch-lightning_version")

log = logging.getLogger(__name__)


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys, with dots, that are not the same in two configurations, with the value in each."""
    first, second = _flat(before), _flat(now)
    return {
        key: (first.get(key), second.get(key))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    }


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError unless the run in ``folder``, which began as ``before``, is the one that is wanted ``now``."""
    differing = {
        key: values
        for key, values in changed(before, now).items()
        if not any(key == harmless or key.startswith(f"{harmless}.") for harmless in HARMLESS)
    }
    if differing:
        told = "; ".join(f"{key} was {then!r} and is {value!r}" for key, (then, value) in differing.items())
        raise InputError(
            f"the run in {folder} is another: {told}. Give what it was begun with, or begin a run of its own with "
            f"hydra.run.dir=… (resume=CHECKPOINT starts one from a checkpoint)"
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, entry in value.items():
        found |= _flat(entry, f"{prefix}.{key}" if prefix else str(key))
    return found


def checkpoint_of(folder: Path) -> Path | None:
    """The newest whole checkpoint in a run's folder, None if there is none.

    Newer ones that are not whole are told of and put aside.
    """
    found = find(folder / "checkpoints")
    for path, wrong in sorted(found.broken.items()):
        instead = "from the beginning" if found.path is None else f"from {found.path.name}"
        log.warning("The checkpoint %s is not whole (%s): going on %s.", path, wrong, instead)
        if path.exists():
            path.replace(path.with_name(path.name + BROKEN))
    return found.path


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, tensors unread. Raises InputError for one that training cannot go on from."""
    found = load(path, mapped=True)
    if missing := [name for name in OF_TRAINING if name not in found]:
        raise InputError(
            f"resume={path} holds weights and not the training that they came of (no {', '.join(missing)}): give a "
            f"checkpoint of a run, or begin with the weights of a run's encoder with model=local model.source=…/encoder"
        )
    return found


def check_checkpoint(path: Path, objective: lightning.LightningModule) -> None:
    """Raise InputError unless ``path`` is a checkpoint of this objective with this encoder and these heads."""
    found = read(path)
    expected = {name: tuple(value.shape) for name, value in objective.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in found["state_dict"].items()}
    for name in sorted(expected.keys() | there.keys()):
        if expected.get(name) != there.get(name):
            raise InputError(
                f"resume={path} is a checkpoint of another model, objective or corpus: {name} has the shape "
                f"{there.get(name, 'of nothing')} there and {expected.get(name, 'of nothing')} here"
            )
