"""What turns waveforms into features, and how one is told from another."""

import hashlib
import json
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Features

__all__ = ["Extractor", "digest"]

# Of a configuration: what has no effect on features.
IGNORED = ("_name_or_path", "dtype", "torch_dtype", "transformers_version")


class Extractor(Protocol):
    """Whatever turns waveforms into features of one layer or more: an `Encoder`, an `Mfcc`."""

    n_layers: int
    dim: int
    frequency: float

    def __call__(self, waveforms: Tensor, lengths: Tensor, layers: Sequence[int] | None = None) -> Features: ...


def digest(extractor: Extractor) -> str:
    """Hash an extractor's class, configuration and weights (SHA-256): equal where it gives the same features.

    Raises InputError for one that is not a `torch.nn.Module`, whose weights cannot be found.
    """
    if not isinstance(extractor, nn.Module):
        raise InputError(
            f"features.keep: {type(extractor).__name__} is not a torch.nn.Module, so its features cannot be told from "
            f"those of another"
        )
    config = getattr(getattr(extractor, "model", None), "config", None)
    options = {} if config is None else {k: v for k, v in config.to_dict().items() if k not in IGNORED}
    kind = f"{type(extractor).__module__}.{type(extractor).__qualname__}"
    settings = [kind, getattr(extractor, "normalized", None), options]
    hashed = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, weight in sorted(extractor.state_dict().items()):
        hashed.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        hashed.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()
