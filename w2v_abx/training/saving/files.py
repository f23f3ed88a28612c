"""Checkpoint files: written whole or not at all, and told apart from those that are not."""

import errno
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

from w2v_abx.errors import InputError
from w2v_abx.system import atomic
from w2v_abx.system.atomic import NotWritten

__all__ = ["CheckpointFiles", "Found", "defect", "find", "load", "sizes", "sweep"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BROKEN = ".broken"  # what a checkpoint that is not whole is called from then on


class CheckpointFiles(CheckpointIO):
    """Writes checkpoints under another name first, onto the disk and not merely into its cache; reads nothing but plain
    values and tensors (``weights_only``).

    Unlike Lightning's own it does not hold a second copy of the checkpoint in memory.
    """

    def __init__(self) -> None:
        self._collecting = False
        self._error: Exception | None = None

    @contextmanager
    def collected(self) -> Iterator[list[Exception]]:
        """Put what goes wrong into a list rather than raise it, so that no rank waits for the one that writes."""
        errors: list[Exception] = []
        self._collecting, self._error = True, None
        try:
            yield errors
        finally:
            self._collecting = False
            errors += [] if self._error is None else [self._error]

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write ``checkpoint``. Raises NotWritten where the disk is full: nothing is left, what was there stays."""
        try:
            save(checkpoint, Path(path))
        except Exception as error:
            if not self._collecting:
                raise
            self._error = error

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        """Plain values and tensors, whatever ``weights_only`` asks for."""
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


class _Sink:
    """What PyTorch writes a file through. It must not be told of an error, from which its writer does not recover."""

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
        """Everything has gone to the system."""


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint and rename it."""

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
            free = f", of which {path.parent} has {_told(shutil.disk_usage(path.parent).free)} left"
        raise NotWritten(
            f"the checkpoint {path} was not written ({error.strerror}): it takes {_told(sizes(checkpoint))}{free}; "
            f"make room and go on from the last whole checkpoint with resume=auto"
        ) from error


def sizes(value: Any) -> int:
    """Bytes of the distinct tensors in nested containers."""
    storages: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, Mapping):
            for entry in value.values():
                visit(entry)
        elif isinstance(value, list | tuple):
            for entry in value:
                visit(entry)

    visit(value)
    return sum(storages.values())


def _told(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def load(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU; ``mapped``: tensors are read when they are used.

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
    """What is wrong with a checkpoint, every byte of which is read; None if it is whole."""
    try:
        with zipfile.ZipFile(path) as file:
            if (damaged := file.testzip()) is not None:
                return f"{damaged} does not have the checksum that was written"
    except Exception as error:  # a damaged archive raises what it will
        return str(error) or type(error).__name__
    try:
        load(path, mapped=True)
    except InputError as error:
        return str(error)
    return None


class Found(NamedTuple):
    """A whole checkpoint, and those after it that are not, each with what is wrong with it."""

    path: Path | None
    step: int
    broken: dict[Path, str]


def find(folder: Path) -> Found:
    """The newest whole checkpoint of a folder: of those with the most steps, the one written last."""
    broken: dict[Path, str] = {}
    steps: dict[Path, int] = {}
    for path in {path.resolve() for path in folder.glob("*.ckpt") if not path.name.startswith(".") and path.exists()}:
        try:
            steps[path] = int(load(path, mapped=True)["global_step"])
        except (InputError, KeyError, TypeError, ValueError) as error:
            broken[path] = str(error)
    for path in sorted(steps, key=lambda path: (steps[path], path.stat().st_mtime_ns), reverse=True):
        if (wrong := defect(path)) is None:
            return Found(path, steps[path], broken)
        broken[path] = wrong
    return Found(None, 0, broken)


def sweep(folder: Path) -> None:
    """Take away what a process that was killed left unfinished. No other may be at work in the folder."""
    for path in folder.glob(".*-*.ckpt"):
        path.unlink(missing_ok=True)
