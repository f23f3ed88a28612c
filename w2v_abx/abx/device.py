"""The device that scores, by name."""

import torch

from w2v_abx.errors import InputError
from w2v_abx.system.checks import fail

__all__ = ["resolve_device"]

KINDS = ("cuda", "mps", "xpu")


def resolve_device(name: str) -> torch.device:
    """Find the device of a name: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` …, or ``auto``, an accelerator if there is one.

    Raises:
        InputError: there is no such device.
    """
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "cpu" or (name == "auto" and here is None):
        return torch.device("cpu")
    kind, colon, number = name.partition(":")
    if name != "auto" and (kind not in KINDS or (colon and not number.isdecimal())):
        raise fail("abx.device", name, "cpu, cuda, mps, xpu (cuda:N for one of several) or auto")
    if here is None or (name != "auto" and here.type != kind):
        raise InputError(f"abx.device={name}: PyTorch finds no {kind} device here; use abx.device=cpu, or auto.")
    index = int(number) if number else torch.accelerator.current_device_index()
    if index >= torch.accelerator.device_count():
        raise InputError(
            f"abx.device={name}: the devices here are numbered from 0 to {torch.accelerator.device_count() - 1}."
        )
    return torch.device(here.type, index)
