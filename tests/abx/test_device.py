"""Devices by name."""

import pytest
import torch

from w2v_abx.abx.device import resolve_device
from w2v_abx.errors import InputError


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "meta", ""])
def test_a_device_that_is_none(name: str) -> None:
    with pytest.raises(InputError, match=f"abx.device='{name}' must be cpu, cuda, mps, xpu .* or auto"):
        resolve_device(name)


def test_devices_without_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="abx.device=cuda:1: PyTorch finds no cuda device here"):
        resolve_device("cuda:1")


@pytest.mark.parametrize(("kind", "other"), [("cuda", "mps"), ("xpu", "cuda"), ("mps", "cuda")])
def test_an_accelerator(kind: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 1)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto") == resolve_device(kind) == torch.device(kind, 1)
    assert resolve_device(f"{kind}:0") == torch.device(kind, 0)
    with pytest.raises(InputError, match="from 0 to 1"):
        resolve_device(f"{kind}:2")
    with pytest.raises(InputError, match=f"no {other} device"):
        resolve_device(other)
