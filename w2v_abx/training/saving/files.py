"""Checkpoint files: written whole or not at all, and checked before training goes on from one."""

import errno
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

from w2v_abx.distributed.collectives import agree
from w2v_abx.errors import InputError, NotWritten
from w2v_abx.system import atomic

__all__ = ["CheckpointFiles", "check_checkpoint", "checkpoint_of", "defect", "load", "read", "save_together", "sizes"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk without room
OF_TRAINING = ("loops", "optimizer_states", "lr_schedulers", "pytorch-lightning_version")

log = logging.getLogger(__name__)


class CheckpointFiles(CheckpointIO):
    """Write checkpoints to a temporary name, onto the disk; read nothing but plain values and tensors.

    Unlike Lightning's own it does not hold a second copy of the checkpoint in memory. ``raises=False``: what goes wrong
    in writing is left in ``error``.
    """

    def __init__(self, *, raises: bool = True) -> None:
        self.raises = raises
        self.error: Exception | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write ``checkpoint``. Raises NotWritten where the disk is full: nothing is left, what was there stays."""
        try:
            save(checkpoint, Path(path))
        except Exception as error:
            if self.raises:
                raise
            self.error = error

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        """Read a checkpoint with ``weights_only``, whatever is asked for."""
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


def save_together(trainer: lightning.Trainer, path: Path) -> None:
    """Write a checkpoint of the training, a collective: all ranks raise what goes wrong on the one that writes it."""
    files, before = CheckpointFiles(raises=False), trainer.strategy.checkpoint_io
    trainer.strategy.checkpoint_io = files
    try:
        trainer.save_checkpoint(path, weights_only=False)
    finally:
        trainer.strategy.checkpoint_io = before
    agree(files.error)


class _Sink:
    """What PyTorch writes a file through: it raises no error, from which PyTorch's writer would not recover."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            while view and self.error is None:
                view = view[os.write(self.handle, view) :]
        except OSError as error:
            self.error = error
        return size

    def flush(self) -> None:
        """Do nothing: everything has gone to the system."""


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint and rename it. Raises NotWritten."""

    def write(temporary: Path) -> None:
        with temporary.open("wb", buffering=0) as file:
            sink = _Sink(file.fileno())
            torch.save(checkpoint, sink)  # type: ignore[arg-type]
            if sink.error is not None:
                raise sink.error

    try:
        atomic.write(path, write, lasting=True)
    except OSError as error:
        free = ""
        if error.errno not in FULL:
            raise NotWritten(f"the checkpoint {path} cannot be written ({error.strerror or error})") from error
        with suppress(OSError):
            free = f", of which {path.parent} has {_shown(shutil.disk_usage(path.parent).free)} left"
        raise NotWritten(
            f"the checkpoint {path} was not written ({error.strerror}): it takes {_shown(sizes(checkpoint))}{free}; "
            f"make room and go on from the last whole checkpoint with resume=auto"
        ) from error


def sizes(value: Any) -> int:
    """Count the bytes of the distinct tensors in nested containers."""
    storages = (tensor.untyped_storage() for tensor in _tensors(value))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(entry)


def _shown(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def load(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint to the CPU; ``mapped``: tensors are read when they are used.

    Raises InputError for a file that is missing or no checkpoint.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        if not isinstance(found, dict) or "state_dict" not in found:
            raise KeyError("it holds no weights")
    except FileNotFoundError:
        raise InputError(f"resume={path} is not there") from None
    except Exception as error:  # whatever unpickling a damaged file leads to
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"resume={path} is not a whole checkpoint ({said[0]})") from error
    return found


def defect(path: Path) -> str | None:
    """Say what is wrong with a checkpoint, every byte of which is read; None if it is whole."""
    try:
        with zipfile.ZipFile(path) as file:
            if (damaged := file.testzip()) is not None:
                return f"{damaged} does not have the checksum that was written"
        load(path, mapped=True)
    except Exception as error:  # a damaged archive raises what it will
        return str(error) or type(error).__name__
    return None


def checkpoint_of(folder: Path) -> Path | None:
    """Find the newest whole checkpoint in a run's folder: of those with the most steps, the one written last.

    Newer ones that are not whole are warned of and renamed to ``….broken``.
    """
    broken: dict[Path, str] = {}
    steps: dict[Path, int] = {}
    for path in {path.resolve() for path in (folder / "checkpoints").glob("[!.]*.ckpt") if path.exists()}:
        try:
            steps[path] = int(load(path, mapped=True)["global_step"])
        except (InputError, KeyError, TypeError, ValueError) as error:
            broken[path] = str(error)
    found = None
    for path in sorted(steps, key=lambda path: (steps[path], path.stat().st_mtime_ns), reverse=True):
        if (wrong := defect(path)) is None:
            found = path
            break
        broken[path] = wrong
    for path, wrong in sorted(broken.items()):
        instead = "from the beginning" if found is None else f"from {found.name}"
        log.warning("The checkpoint %s is not whole (%s): going on %s.", path, wrong, instead)
        path.replace(path.with_name(f"{path.name}.broken"))
    return found


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint, its tensors when they are used. Raises InputError for one that training cannot go on from."""
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
