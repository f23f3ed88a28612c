"""Devices by name."""

import pytest
import torch

from w2v_abx.abx import device
from w2v_abx.abx.device import resolve_device
from w2v_abx.errors import InputError


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", ""])
def test_a_device_that_is_none(name: str) -> None:
    with pytest.raises(InputError, match="cpu, cuda, cuda:N or auto"):
        resolve_device(name)


def test_devices_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="cuda:1: PyTorch finds no CUDA GPU"):
        resolve_device("cuda:1")


def test_a_gpu_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with pytest.raises(InputError, match="from 0 to 0"):
        resolve_device("cuda:1")
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setattr(device, "_has_triton", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="needs Triton"):
        resolve_device("cuda")
