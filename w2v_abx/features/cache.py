"""Feature stores by content, in one folder, which together take no more room than is given."""

import fcntl
import gc
import hashlib
import json
import logging
import os
import shutil
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from w2v_abx.errors import InputError
from w2v_abx.features.store import DTYPES, STORE, FeatureStore, StoreIdentity, is_store
from w2v_abx.features.writing import StoreWriter
from w2v_abx.system.atomic import written
from w2v_abx.system.checks import choice, number
from w2v_abx.system.locks import alone

__all__ = ["FeatureCache"]

GIGABYTE = 10**9  # bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureCache:
    """Where features are stored by content.

    Args:
        folder: of all such stores; a run makes room by removing those that were not used for longest, of those that no
            process uses.
        gigabytes: that they may take together; 0: nothing is stored.
        dtype: ``float32`` or ``float16``.

    Raises:
        InputError: values out of range.
    """

    folder: Path
    gigabytes: float = 20.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        number("features.gigabytes", self.gigabytes, low=0)
        choice("features.dtype", self.dtype, DTYPES)

    def bytes_of(self, frames: int, dim: int, layers: int) -> int:
        """Count the bytes of so many frames at so many layers."""
        return frames * dim * layers * int(self.dtype.removeprefix("float")) // 8

    def over_limit(self, needed: int) -> str:
        """Say why so many bytes are more than may be stored; empty: they are not."""
        if needed <= self.gigabytes * GIGABYTE:
            return ""
        return f"their features take {needed / GIGABYTE:.1f} GB, and features.gigabytes={self.gigabytes:g}"

    def too_large(self, needed: int) -> str:
        """Say why so many bytes cannot be stored; empty: they can."""
        if reason := self.over_limit(needed):
            return reason
        with written(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        return f"their features take {needed / GIGABYTE:.1f} GB, and {self.folder} has no room" if needed > free else ""

    def store(self, identity: StoreIdentity, needed: int, write: Callable[[StoreWriter], Any]) -> FeatureStore:
        """Open the store of this identity, of so many bytes; where there is none, let ``write`` write its clips first.

        One process writes it, and others that want the same wait. None removes it as long as what is returned is there.

        Raises:
            InputError: there is no room beside the stores that are in use, or on the disk.
            NotWritten: the disk is full, or fails.
        """
        name = hashlib.sha256(json.dumps(identity.plain()).encode()).hexdigest()[:16]
        folder = self.folder / name
        with written(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder / f".{name}.extraction"):
            if is_store(folder):
                os.utime(folder / STORE)
                return _held(FeatureStore(folder))
            self._make_room(name, needed)
            with StoreWriter(folder, identity) as writer:
                write(writer)
                return _held(writer.finish())

    def _make_room(self, name: str, needed: int) -> None:
        """Remove the stores that were not used for longest until there is room for one of this name and size."""
        others = [path for path in self.folder.iterdir() if is_store(path) and path.name != f".{name}.partial"]
        weighed = sorted((*_weigh(store), store) for store in others)
        total = needed + sum(size for _, size, _ in weighed)
        if total > self.gigabytes * GIGABYTE:
            gc.collect()  # else stores that earlier runs of this process have used may still be held
        for _, size, store in weighed:
            if total <= self.gigabytes * GIGABYTE:
                break
            if self._remove(store):
                log.info("The features in %s are removed: features.gigabytes=%g.", store, self.gigabytes)
                total -= size
        if total > self.gigabytes * GIGABYTE:
            raise InputError(
                f"features.gigabytes={self.gigabytes:g}, and with those that are in use, by this process or others, "
                f"there would be {total / GIGABYTE:.3g} GB of features in {self.folder}: raise it, take fewer models "
                "or layers, or features.dtype=float16"
            )
        _, there = _weigh(self.folder / f".{name}.partial")
        if reason := self.too_large(needed - there):
            raise InputError(f"{reason}: make room, or choose another paths.data")

    def _remove(self, store: Path) -> bool:
        """Remove a store, whole or unfinished, unless it is read or written."""
        name = store.name.removeprefix(".").removesuffix(".partial")
        try:
            with alone(self.folder / f".{name}.extraction", timeout=0), (store / STORE).open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(store)
        except (Timeout, BlockingIOError):
            return False
        except FileNotFoundError:  # another process was faster
            return True
        return True


def _held(store: FeatureStore) -> FeatureStore:
    """Keep a store from being removed to make room for others, until it is let go of."""
    descriptor = os.open(store.folder / STORE, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    weakref.finalize(store, os.close, descriptor)
    return store


def _weigh(store: Path) -> tuple[float, int]:
    """Find when a store was last used, and its bytes; one that is gone meanwhile has none."""
    try:
        return (store / STORE).stat().st_mtime, sum(path.stat().st_size for path in store.iterdir())
    except FileNotFoundError:
        return 0.0, 0
