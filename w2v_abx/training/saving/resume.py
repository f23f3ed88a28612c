"""Find and check the checkpoint that a training goes on from."""

import logging
from pathlib import Path
from typing import Any

import lightning

from w2v_abx.errors import InputError
from w2v_abx.training.saving.files import BROKEN, find, load

__all__ = ["check_checkpoint", "checkpoint_of", "read"]

OF_TRAINING = ("loops", "optimizer_states", "lr_schedulers", "pytorch-lightning_version")

log = logging.getLogger(__name__)


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
