"""Write a feature store clip by clip, so that a process that is killed loses little."""

import io
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from filelock import Timeout
from torch import Tensor

from w2v_abx.errors import InputError, NotWritten
from w2v_abx.features.store import INDEX, STORE, FeatureStore, StoreIdentity, is_store, layer_file
from w2v_abx.system import atomic
from w2v_abx.system.locks import alone

__all__ = ["StoreWriter"]

JOURNAL = "journal.jsonl"
HEADER_BYTES = 128  # bytes: numpy leaves room in it for a first dimension of any size
FLUSH_BYTES = 2**26  # of features that a power failure may cost


class StoreWriter:
    """Writes the features of clips, in any order, to a folder that becomes a `FeatureStore` when all are there.

    Until then it is called ``.NAME.partial``. Frames are appended to the file of each layer; once they are on the disk,
    the clip is appended to the journal. A writer for the same identity goes on behind the last clip that the journal
    has and the files hold, and one for another begins anew.

    Used as a context manager, which holds a lock on the folder.

    Raises:
        InputError: the folder exists and is no feature store; another process writes it.
        NotWritten: the disk is full, or fails.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: StoreIdentity) -> None:
        self.folder, self.identity = Path(folder), identity
        self.partial = self.folder.with_name(f".{self.folder.name}.partial")
        self.frames: dict[str, int] = {}  # of each clip that is written, in the order of writing
        self._dtype = np.dtype(identity.dtype)
        self._files: Sequence[IO[bytes]] = ()
        self._pending: list[str] = []  # lines of the journal whose frames may not be on the disk yet
        self._pending_bytes = 0
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self.folder.exists() and not is_store(self.folder):
            raise InputError(f"{self.folder} exists and is no feature store: choose another folder, or remove it")
        with ExitStack() as stack:
            with atomic.written(self.partial):
                self.folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(alone(self.folder.with_name(f".{self.folder.name}.lock"), timeout=0))
            except Timeout as error:
                raise InputError(f"another process writes {self.folder}: wait for it") from error
            with atomic.written(self.partial):
                if not self._is_resumable():
                    self._begin()
                paths = [*(layer_file(self.partial, layer) for layer in self.identity.layers), self.partial / JOURNAL]
                files: list[IO[bytes]] = [stack.enter_context(path.open("r+b")) for path in paths]
                self._files, self._journal = files[:-1], files[-1]
                self._resume()
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        with self._open:
            if error is not None and not isinstance(error, OSError | NotWritten):
                self.flush()

    def add(self, keys: Sequence[str], hidden: Sequence[Tensor], lengths: Tensor) -> None:
        """Append clips that are not there yet: of each layer (B, F, D), of which each clip has so many frames (B,).

        Raises:
            InputError: a value is too large for float16.
        """
        counts = lengths.tolist()
        if len(set(keys)) < len(keys) or any(key in self.frames for key in keys):
            raise ValueError(f"a clip of {keys} is written twice")
        # All layers first: of a clip that cannot be written, none is.
        parts = [
            self._array(keys, layer, torch.cat([row[:count] for row, count in zip(rows, counts, strict=True)]), counts)
            for layer, rows in zip(self.identity.layers, hidden, strict=True)
        ]
        with atomic.written(self.partial):
            for file, part in zip(self._files, parts, strict=True):
                file.write(part.data if part.size else b"")
        for key, count in zip(keys, counts, strict=True):
            self.frames[key] = count
            self._pending.append(json.dumps([key, count]) + "\n")
        self._pending_bytes += sum(part.nbytes for part in parts)
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write all clips to the disk, then into the journal."""
        with atomic.written(self.partial):
            for file in self._files:
                _sync(file)
            self._journal.write("".join(self._pending).encode())
            _sync(self._journal)
        self._pending, self._pending_bytes = [], 0

    def finish(self) -> FeatureStore:
        """Make the store of what is written, in place of one that is there."""
        self.flush()
        total = sum(self.frames.values())
        with atomic.written(self.partial):
            for file in self._files:
                file.seek(0)
                file.write(self._header(total))
                _sync(file)
            counts = np.fromiter(self.frames.values(), dtype=np.int64, count=len(self.frames))
            index = pl.DataFrame(
                {"key": list(self.frames), "first": np.cumsum(counts) - counts, "frames": counts},
                schema={"key": pl.String, "first": pl.Int64, "frames": pl.Int64},
            )
            atomic.write_parquet(self.partial / INDEX, index, lasting=True)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.partial.rename(self.folder)
            (self.folder / JOURNAL).unlink()  # only now: whoever is killed before finds all clips in it
        return FeatureStore(self.folder)

    def _array(self, keys: Sequence[str], layer: int, frames: Tensor, counts: Sequence[int]) -> npt.NDArray[Any]:
        """Frames (N, D) of some clips in the type that is stored, on the host."""
        if frames.shape[1:] != (self.identity.dim,):
            raise ValueError(f"layer {layer} has frames of shape {tuple(frames.shape[1:])}, not ({self.identity.dim},)")
        stored = frames.detach().to("cpu", getattr(torch, self.identity.dtype))
        if self.identity.dtype == "float16":
            over = (stored.isinf() & frames.cpu().isfinite()).any(dim=1)
            if over.any():
                clip = int(np.searchsorted(np.cumsum(counts), int(over.nonzero()[0]), side="right"))
                raise InputError(
                    f"features.dtype=float16 cannot hold layer {layer} of '{keys[clip]}': values go beyond 65504; "
                    "use float32"
                )
        return stored.contiguous().numpy()

    def _header(self, frames: int) -> bytes:
        buffer = io.BytesIO()
        described = np.lib.format.dtype_to_descr(self._dtype)
        shape = (frames, self.identity.dim)
        np.lib.format.write_array_header_1_0(buffer, {"descr": described, "fortran_order": False, "shape": shape})
        assert buffer.tell() == HEADER_BYTES
        return buffer.getvalue()

    def _is_resumable(self) -> bool:
        """Whether there is something of this very store."""
        try:
            files = [layer_file(self.partial, layer) for layer in self.identity.layers]
            same = StoreIdentity.read(self.partial / STORE) == self.identity
            return (
                same
                and all(file.stat().st_size >= HEADER_BYTES for file in files)
                and (self.partial / JOURNAL).is_file()
            )
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def _begin(self) -> None:
        if self.partial.exists():
            shutil.rmtree(self.partial)
        self.partial.mkdir()
        for layer in self.identity.layers:
            layer_file(self.partial, layer).write_bytes(self._header(0))
        (self.partial / JOURNAL).touch()
        atomic.write_json(self.partial / STORE, self.identity.plain(), lasting=True)

    def _resume(self) -> None:
        """Read the journal up to the last clip that is whole, and cut off what lies behind it in all files."""
        row = self.identity.dim * self._dtype.itemsize
        room = (min(os.fstat(file.fileno()).st_size for file in self._files) - HEADER_BYTES) // row
        end = total = 0
        for line in self._journal:
            try:
                key, frames = json.loads(line)
                whole = line.endswith(b"\n") and key not in self.frames and 0 <= frames <= room - total
            except (ValueError, TypeError):
                whole = False
            if not whole:
                break
            self.frames[key] = frames
            end, total = end + len(line), total + frames
        for file, size in [*((file, HEADER_BYTES + total * row) for file in self._files), (self._journal, end)]:
            file.seek(size)
            file.truncate()


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
