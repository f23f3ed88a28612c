"""Digests of what features are made of: stored features are reused where both are the same."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

import w2v_abx
from w2v_abx.errors import InputError
from w2v_abx.models.extractor import Extractor

__all__ = ["device_name", "digest_extractor", "digest_files", "running_code"]

# Keys of a configuration without effect on features.
IGNORED = ("_name_or_path", "dtype", "torch_dtype", "transformers_version")
LIBRARIES = ("torch", "torchaudio", "transformers", "numpy", "numba", "scipy", "polars", "soundfile", "soxr")


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


@cache
def running_code() -> list[str]:
    """The code that this process runs: a digest of this package, and versions of libraries."""
    package = Path(w2v_abx.__file__).parent
    hashed = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        hashed.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return [hashed.hexdigest(), *(metadata.version(name) for name in LIBRARIES)]


def device_name(device: torch.device) -> str:
    """Name a device as far as results depend on it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
