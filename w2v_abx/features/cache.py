"""Feature stores by content, in one folder, which together take no more room than is given."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        folder: of all such stores; a run makes room by removing those that were not used for longest.
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

    def too_large(self, needed: int) -> str:
        """Say why so many bytes cannot be stored; empty: they can."""
        if needed > self.gigabytes * GIGABYTE:
            return f"their features take {needed / GIGABYTE:.1f} GB, and features.gigabytes={self.gigabytes:g}"
        with written(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        return f"their features take {needed / GIGABYTE:.1f} GB, and {self.folder} has no room" if needed > free else ""

    def store(self, identity: StoreIdentity, needed: int, write: Callable[[StoreWriter], Any]) -> FeatureStore:
        """Open the store of this identity, of so many bytes; where there is none, let ``write`` write its clips first.

        One process writes it, and others that want the same wait.

        Raises:
            NotWritten: the disk is full, or fails.
        """
        name = hashlib.sha256(json.dumps(identity.plain()).encode()).hexdigest()[:16]
        folder = self.folder / name
        with alone(self.folder / f".{name}.extraction"):
            if is_store(folder):
                os.utime(folder / STORE)
                return FeatureStore(folder)
            self._make_room(needed)
            with StoreWriter(folder, identity) as writer:
                write(writer)
                return writer.finish()

    def _make_room(self, needed: int) -> None:
        """Remove the stores that were not used for longest until there is room for one of so many bytes."""
        stores = sorted(filter(is_store, self.folder.iterdir()), key=lambda store: (store / STORE).stat().st_mtime)
        sizes = [sum(path.stat().st_size for path in store.iterdir()) for store in stores]
        total = sum(sizes) + needed
        for store, size in zip(stores, sizes, strict=True):
            if total <= self.gigabytes * GIGABYTE:
                break
            log.info("The features in %s are removed: features.gigabytes=%g.", store, self.gigabytes)
            shutil.rmtree(store)
            total -= size
