"""The states of the random number generators of a process."""

import base64
import random
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["restore", "take", "written"]

States = dict[str, Any]


def take(device: torch.device) -> States:
    """The states now of Python's, NumPy's and PyTorch's generators, and of the one of ``device`` if that is a GPU."""
    states: States = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def written(states: States) -> dict[str, Any]:
    """The states as JSON values, which a checkpoint holds and ranks exchange."""
    version, numbers, gauss = states["python"]
    name, key, place, has_gauss, cached = states["numpy"]
    plain: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, key.tolist(), int(place), int(has_gauss), float(cached)],
    }
    for kind in ("torch", "cuda"):
        if kind in states:
            plain[kind] = base64.b64encode(states[kind].numpy().tobytes()).decode()
    return plain


def restore(ranks: Sequence[dict[str, Any]], rank: int, device: torch.device) -> None:
    """Put the generators of this rank back to the state that `written` gave of each rank.

    A rank that had none gets one that is a function of the first rank's and of its number.
    """
    plain = ranks[min(rank, len(ranks) - 1)]
    version, numbers, gauss = plain["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, key, *rest = plain["numpy"]
    np.random.set_state((name, np.array(key, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(_bytes(plain["torch"]))
    if device.type == "cuda" and "cuda" in plain:
        torch.cuda.set_rng_state(_bytes(plain["cuda"]), device)
    if rank >= len(ranks):
        seed = zlib.crc32(f"{rank} {ranks[0]['torch']}".encode())
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)  # of the GPU, too


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
