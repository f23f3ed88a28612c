"""Digests of what features are made of: stored features are reused where both are the same."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from w2v_abx.errors import InputError
from w2v_abx.models.extractor import Extractor

__all__ = ["digest_extractor", "digest_files"]

# Keys of a configuration without effect on features.
IGNORED = ("_name_or_path", "dtype", "torch_dtype", "transformers_version")


def digest_extractor(extractor: Extractor) -> str:
    """Hash an extractor's class, configuration and weights (SHA-256).

    Raises InputError for one that is not a `torch.nn.Module`, whose weights cannot be found.
    """
    if not isinstance(extractor, nn.Module):
        raise InputError(
            f"features.keep: {type(extractor).__name__} is not a torch.nn.Module, so its features cannot be "
            f"distinguished from those of another"
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


def digest_files(files: Mapping[str, Path]) -> str:
    """Hash the keys and the bytes of audio files (SHA-256). Raises InputError for one that cannot be read."""
    hashed = hashlib.sha256()
    for key in sorted(files):
        try:
            with Path(files[key]).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise InputError(f"{files[key]} cannot be read ({error.strerror or error})") from error
        hashed.update(hashlib.sha256(key.encode()).digest() + content)
    return hashed.hexdigest()
