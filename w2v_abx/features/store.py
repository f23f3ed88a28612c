"""Features on disk: a folder with one memory-mapped array per layer, read by clip, layer, frame or segment."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.items.frames import exact_frequency
from w2v_abx.items.items import FILE, Items
from w2v_abx.system.checks import choice, whole

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DTYPES", "ITEM_FILE", "FeatureStore", "StoreIdentity", "StoredLayer", "is_store", "layer_file"]

DTYPES = ("float32", "float16")
FORMAT = 1
STORE, INDEX = "store.json", "index.parquet"
ITEM_FILE = "items.item"  # the items that the features of a run were scored on
POOLS = ("mean", "max", "middle")


@dataclass(frozen=True)
class StoreIdentity:
    """What features are of: two stores with equal identities hold the same features.

    Attributes:
        extractor: digest of its weights and configuration.
        precision: of Lightning's trainer while it ran, such as ``32-true``.
        frequency: frames a second.
        dim: values per frame.
        dtype: ``float32`` or ``float16``.
        layers: ascending.
        clips: digest of the names of all clips and the bytes of their audio files.
    """

    extractor: str
    precision: str
    frequency: float
    dim: int
    dtype: str
    layers: tuple[int, ...]
    clips: str

    def plain(self) -> dict[str, Any]:
        """What ``store.json`` holds."""
        return {"format": FORMAT, **asdict(self), "layers": list(self.layers)}

    @classmethod
    def read(cls, path: Path) -> "StoreIdentity":
        """Read a ``store.json``. Raises OSError, ValueError or TypeError where it is not one."""
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError(f"{path.name} is not of format {FORMAT}")
        return cls(**{**content, "layers": tuple(content["layers"])})


def layer_file(folder: Path, layer: int) -> Path:
    """The file of one layer: ``layer_08.npy``."""
    return folder / f"layer_{layer:02d}.npy"


def is_store(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a feature store, whole or damaged."""
    return (Path(folder) / STORE).is_file()


class FeatureStore:
    """The features of some clips at some layers, in a folder.

    ``layer_08.npy`` holds the frames of all clips at layer 8, (N, D) in float32 or float16; ``index.parquet`` the
    ``key`` of each clip, its ``first`` row and how many ``frames`` it has; ``store.json`` the `StoreIdentity`. Arrays
    are memory-mapped: opening reads no feature, and what is read the system may drop from memory again.

    Raises:
        InputError: there is no store in the folder, or it is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not is_store(self.folder):
            raise InputError(f"{self.folder} is no feature store: there is no {STORE} in it.")
        try:
            self.identity = StoreIdentity.read(self.folder / STORE)
            self.index = pl.read_parquet(self.folder / INDEX, glob=False).select("key", "first", "frames")
            self._firsts, self._frames = (self.index[name].to_numpy() for name in ("first", "frames"))
            self._rows = {key: row for row, key in enumerate(self.index["key"])}
            if len(self._rows) < self.index.height or not np.array_equal(
                self._firsts, np.cumsum(self._frames) - self._frames
            ):
                raise ValueError(f"the rows of {INDEX} do not follow one another")
        except (OSError, ValueError, TypeError, KeyError, pl.exceptions.PolarsError) as error:
            raise self._damaged(error) from error
        for layer in self.layers:
            self._map(layer)

    @property
    def layers(self) -> list[int]:
        """The layers that are stored, ascending."""
        return list(self.identity.layers)

    @property
    def keys(self) -> list[str]:
        """The names of the clips, in the order of their frames."""
        return list(self._rows)

    @property
    def frequency(self) -> float:
        """Frames a second."""
        return self.identity.frequency

    def clip(self, layer: int, key: str) -> "Tensor":
        """The features of one clip at one layer, (F, D), in memory of their own."""
        return self.layer(layer)[key].clone()

    def layer(self, layer: int) -> "StoredLayer":
        """All clips at one layer, as a mapping from their names."""
        choice("layer", layer, self.layers)
        return StoredLayer(self, self._map(layer))

    def frames(
        self, layer: int, *, limit: int | None = None, seed: int = 0
    ) -> tuple[npt.NDArray[np.float32], pl.DataFrame]:
        """Draw ``limit`` frames of one layer (None: take all), without replacement and in their order.

        Returns:
            Features (n, D), and whose they are: a table of ``key`` and ``frame``, its number in that clip.
        """
        whole("limit", limit, 1, optional="for all")
        values = self.layer(layer).array
        rows = np.arange(len(values))
        if limit is not None and limit < len(values):
            rows = np.sort(np.random.default_rng(seed).choice(len(values), limit, replace=False))
        clips = np.searchsorted(self._firsts, rows, side="right") - 1  # the last of those that begin there: not empty
        whose = {"key": self.index["key"].gather(clips), "frame": rows - self._firsts[clips]}
        return np.asarray(values[rows], dtype=np.float32), pl.DataFrame(whose)

    def segments(self, layer: int, items: Items, pool: str = "mean") -> npt.NDArray[np.float32]:
        """Pool the frames of each item at one layer: their ``mean``, their ``max`` or the ``middle`` one.

        The frames of an item are those that ABX takes. One that ends a frame after its clip does is cut there; one
        without a frame gives NaN.

        Returns:
            (items, D) in float32.

        Raises:
            InputError: an item is of a clip that is not here, or ends further outside it.
        """
        choice("pool", pool, POOLS)
        values = self.layer(layer).array
        pooled = np.full((len(items), self.identity.dim), np.nan, dtype=np.float32)
        starts, stops = items.spans(exact_frequency(self.frequency))
        for row, (key, start, stop) in enumerate(
            zip(items.frame[FILE].to_list(), starts.tolist(), stops.tolist(), strict=True)
        ):
            if key not in self._rows:
                raise InputError(f"{items.where(row)}: there are no features of '{key}' in {self.folder}.")
            first, frames = self._span(key)
            if stop > start and stop > frames + 1:
                raise InputError(
                    f"{items.where(row)}: the item ends at frame {stop}, and {self.folder} has {frames} of '{key}'."
                )
            own = values[first + start : first + min(stop, frames)]
            if len(own) and pool == "middle":
                pooled[row] = own[len(own) // 2]
            elif len(own):
                pooled[row] = own.mean(axis=0, dtype=np.float64) if pool == "mean" else own.max(axis=0)
        return pooled

    def places(self, keys: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
        """Find the first row of each of some clips in a layer's array, and how many frames each has.

        Raises:
            InputError: a clip is not here.
        """
        if missing := [key for key in keys if key not in self._rows]:
            raise InputError(f"there are no features of {missing[0]!r} in {self.folder}")
        spans = {key: self._span(key) for key in keys}
        return {key: first for key, (first, _) in spans.items()}, {key: frames for key, (_, frames) in spans.items()}

    def _span(self, key: str) -> tuple[int, int]:
        row = self._rows[key]
        return int(self._firsts[row]), int(self._frames[row])

    def _map(self, layer: int) -> npt.NDArray[Any]:
        path = layer_file(self.folder, layer)
        wanted = (int(self._frames.sum()), self.identity.dim)
        try:
            # An empty array cannot be mapped.
            values: npt.NDArray[Any] = np.load(path, mmap_mode="r" if wanted[0] else None, allow_pickle=False)
            if values.shape != wanted or values.dtype != np.dtype(self.identity.dtype):
                raise ValueError(f"{path.name} holds {values.dtype} {values.shape}, not {self.identity.dtype} {wanted}")
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(error) from error
        return values

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"The feature store {self.folder} is damaged ({error}): remove it, and let its features be extracted again."
        )


class StoredLayer(Mapping[str, "Tensor"]):
    """One layer of a store, as a mapping from clips to (F, D) tensors: read-only views of the file, not to be changed.

    Attributes:
        array: the frames of all clips, (N, D), memory-mapped.
    """

    def __init__(self, store: FeatureStore, values: npt.NDArray[Any]) -> None:
        self._store, self.array = store, values

    def __getitem__(self, key: str) -> "Tensor":
        import torch

        first, frames = self._store._span(key)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(self.array[first : first + frames])

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.keys)

    def __len__(self) -> int:
        return len(self._store.keys)
