"""Features made elsewhere: a folder of arrays, one a file, or one safetensors file."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from w2v_abx.audio.walking import walk
from w2v_abx.errors import InputError
from w2v_abx.features.store import FeatureStore, is_store
from w2v_abx.items.frames import exact_frequency
from w2v_abx.system.checks import choice

__all__ = ["StoredFeatures", "stored_layers"]

SUFFIXES = (".npy", ".pt")


class StoredFeatures(Mapping[str, "npt.NDArray[np.float32] | torch.Tensor"]):
    """Features by file name, read from disk when asked for.

    ``path`` is a folder of ``.npy`` or ``.pt`` files, searched at all depths and named by their path in it without the
    ending; or one ``.safetensors`` file, named by its tensors. Nothing is unpickled but tensors (``weights_only``).

    Raises:
        InputError: there are no features at ``path``, two files have one name, or (when asked for) a file is damaged
            or holds something else than one array.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._files: dict[str, Path] = {}
        if self.path.suffix == ".safetensors" and self.path.is_file():
            try:
                self._stored = safe_open(self.path, framework="pt")  # opening takes longer than reading
                self._files = dict.fromkeys(sorted(self._stored.keys()), self.path)
            except (SafetensorError, OSError) as error:
                raise InputError(f"{self.path} is not a readable safetensors file: {error}") from error
        elif self.path.is_dir():
            for file in sorted(walk(self.path, "features")):
                if file.suffix not in SUFFIXES:
                    continue
                name = file.relative_to(self.path).with_suffix("").as_posix()
                if name in self._files:
                    raise InputError(f"{self._files[name]} and {file} both hold the features of '{name}'; keep one.")
                self._files[name] = file
        if not self._files:
            raise InputError(
                f"There are no features at {self.path}: it must be a folder with .npy or .pt files, or a .safetensors "
                "file."
            )

    def __getitem__(self, name: str) -> "npt.NDArray[np.float32] | torch.Tensor":
        file = self._files[name]
        try:
            if file.suffix == ".npy":
                return np.load(file, allow_pickle=False)
            if file.suffix == ".pt":
                value = torch.load(file, map_location="cpu", weights_only=True)
            else:
                value = self._stored.get_tensor(name)
        except Exception as error:  # The readers raise many kinds; each means that this file cannot be used.
            raise InputError(f"The features in {file} cannot be read: {error}") from error
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{file} holds a {type(value).__name__}, where one tensor of features is needed.")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def stored_layers(
    path: str | os.PathLike[str], frequency: float | str | None, layers: Sequence[int] | int | None
) -> tuple[Iterable[tuple[int, Mapping[str, Any]]], float]:
    """Open features on disk, whoever made them: a layer after another, and their frames a second.

    Args:
        path: a `FeatureStore`, or what `StoredFeatures` reads, which is one layer, called 0.
        frequency: of the latter; a store knows its own, from which a given one must not differ.
        layers: those wanted of a store; None: all.

    Raises:
        InputError: the frequency is not known, or not the store's; the store lacks a layer; whatever the two readers
            raise.
    """
    if not is_store(path):
        features = StoredFeatures(path)
        if frequency is None:
            raise InputError(f"abx.frequency is missing: give the frames per second of the features in {path}")
        return [(0, features)], float(exact_frequency(frequency))
    store = FeatureStore(path)
    if frequency is not None and exact_frequency(frequency) != exact_frequency(store.frequency):
        raise InputError(
            f"abx.frequency={frequency} is not that of the features in {path}, {store.frequency:g}: leave it out"
        )
    wanted = store.layers if layers is None else [layers] if isinstance(layers, int) else layers
    for layer in wanted:
        choice("abx.layers", layer, store.layers)
    return ((layer, store.layer(layer)) for layer in wanted), store.frequency
