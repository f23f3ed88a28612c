"""The host does not wait for the device inside a step.

The device is torch's ``meta``: its tensors have no values, so that asking for one, which would make the host wait for a
GPU, fails, and so does mixing them with tensors of the CPU, which are real.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from elastic_objectives import CLIPS, make, prepare

from w2v_abx.data import ShardDataModule
from w2v_abx.heads.selfsupervised import SelfSupervisedHead
from w2v_abx.training.microbatch import ElasticModule, MicroBatching
from w2v_abx.training.microbatch.synchronization import sum_losses

DEVICE = torch.device("meta")


def on_the_host(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(value: Any, *, device: Any = None, **settings: Any) -> torch.Tensor:
        assert isinstance(value, torch.Tensor) or torch.device(device or "cpu") != DEVICE
        return make(value, device=device, **settings)

    return made


@pytest.fixture
def _meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch does not know of this device."""
    monkeypatch.setattr("torch.autocast", lambda *args, **settings: contextlib.nullcontext())
    monkeypatch.setattr("torch.is_autocast_enabled", lambda *args: False)
    monkeypatch.setattr("torch.get_autocast_dtype", lambda *args: torch.float32)
    monkeypatch.setattr(
        "w2v_abx.heads.contrastive.gumbel_noise", lambda seed, shape, device: torch.zeros(shape, device=device)
    )
    for name in ("tensor", "as_tensor"):  # which wait until values of the host have been copied
        monkeypatch.setattr(torch, name, on_the_host(getattr(torch, name)))
    monkeypatch.setattr(ElasticModule, "global_step", 0)
    monkeypatch.setattr(ElasticModule, "manual_backward", lambda self, loss: loss.backward())


@pytest.mark.usefixtures("_meta")
@pytest.mark.parametrize("limits", [MicroBatching(clips=3), MicroBatching(seconds=2.0)], ids=["clips", "audio"])
@pytest.mark.parametrize("kind", ["supervised", "masked_prediction", "pretrain", "replay"])
def test_a_step_asks_the_device_for_nothing(kind: str, limits: MicroBatching, tmp_path: Path) -> None:
    data = ShardDataModule(prepare(tmp_path), batch_size=CLIPS)
    module = make(kind, data, microbatch=limits)
    module.train()
    module.to(DEVICE)
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=None), strategy=SimpleNamespace(model=module))
    module._trainer = trainer  # type: ignore[assignment]
    (batch,) = data.train_dataloader()
    if kind == "replay":  # of half of the clips, which have no targets
        batch.targets["one"].present[::2] = False
        replay = module.heads["replay"]
        assert isinstance(replay, SelfSupervisedHead)
        replay.clips = "unlabelled"
    batch = module.transfer_batch_to_device(batch, DEVICE, 0)
    optimizer = torch.optim.AdamW([weight for weight in module.parameters() if weight.requires_grad], foreach=False)
    optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined] as the fused one of a GPU

    batch = module.prepare(batch)
    sums = module._attempt(module.microbatches.split(batch), module.totals(batch))
    assert module._step is not None
    sums = sum_losses(sums, module._step)
    module.on_before_optimizer_step(optimizer)
    assert sums["loss"].device == optimizer.found_inf.device == DEVICE  # type: ignore[attr-defined]
    assert module._unsure is not None
    assert module.encoder.model.encoder.layers[0].attention.k_proj.weight.grad is not None  # type: ignore[union-attr]


def test_the_device_of_this_test_has_no_values() -> None:
    flag = torch.zeros(3, device=DEVICE)
    for wait in (lambda: bool(flag.sum() > 0), flag.tolist, lambda: flag[flag > 0], lambda: flag + torch.ones(3)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait()
