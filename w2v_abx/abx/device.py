"""The device that scores, by name."""

from importlib.util import find_spec

import torch

from w2v_abx.errors import InputError

__all__ = ["resolve_device"]


def resolve_device(name: str) -> torch.device:
    """The device of a name: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` (a GPU where one can be used, else the CPU).

    Raises:
        InputError: there is no such device, or no Triton to compile for it.
    """
    if name == "cpu" or (name == "auto" and not (torch.cuda.is_available() and _has_triton())):
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if name != "auto" and (kind != "cuda" or (number and not number.isdecimal()) or name.endswith(":")):
        raise InputError(f"device is cpu, cuda, cuda:N or auto, not {name!r}.")
    if not torch.cuda.is_available():
        raise InputError(f"device={name}: PyTorch finds no CUDA GPU here; use device=cpu, or auto.")
    if not _has_triton():
        raise InputError(f"device={name} needs Triton, which this PyTorch comes without; install triton, or use cpu.")
    index = int(number) if number else torch.cuda.current_device()
    if index >= torch.cuda.device_count():
        raise InputError(f"device={name}: the GPUs here are numbered from 0 to {torch.cuda.device_count() - 1}.")
    return torch.device("cuda", index)


def _has_triton() -> bool:
    return find_spec("triton") is not None
