import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from tuned import STEPS, SaveAt, Tuned, assert_close, assert_equal, fit, weights

from w2v_abx.data import Batch
from w2v_abx.errors import InputError
from w2v_abx.training.callbacks import L2SP
from w2v_abx.training.optimization import Optimization

ALPHA, BETA = 0.3, 0.2


class Penalised(Tuned):
    """The penalty as part of the loss, as the paper has it: for autograd to find the gradient of."""

    def __init__(self, brought: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self.brought = brought
        self.start = weights(self)
        self.penalties: list[float] = []

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        away = to_zero = torch.zeros(())
        for name, weight in self.named_parameters():
            if weight.requires_grad and (name.startswith("encoder.") or name == self.brought):
                away = away + (weight - self.start[name]).square().sum()
            elif weight.requires_grad:
                to_zero = to_zero + weight.square().sum()
        penalty = ALPHA / 2 * away + BETA / 2 * to_zero
        self.penalties.append(float(penalty))
        return {"loss": super().loss(micro, totals)["loss"] + len(micro) / totals["clips"] * penalty}


class Told(lightning.Callback):
    """The penalty that was logged at each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *others: Any) -> None:
        self.values.append(float(trainer.callback_metrics["train/l2sp"]))


def sgd() -> Optimization:
    """Steps in proportion to the gradient, so that what is wrong with it shows."""
    return Optimization(functools.partial(torch.optim.SGD, lr=0.1))


@pytest.mark.parametrize("train", ["all", "top-1", "lora", "head"])
def test_it_is_the_penalty_in_the_loss(train: str, tmp_path: Path) -> None:
    told = Told()
    ours = fit(Tuned(sgd(), train=train, microbatch=1), tmp_path, [L2SP(ALPHA, BETA), told])
    theirs = fit(Penalised(optimization=sgd(), train=train), tmp_path)
    assert_close(weights(ours), weights(theirs))
    assert told.values == pytest.approx(theirs.penalties, rel=1e-4)
    with pytest.raises(AssertionError):
        assert_close(weights(ours), weights(fit(Tuned(sgd(), train=train), tmp_path)))


def test_what_else_a_checkpoint_brought_is_pulled_to_its_start(tmp_path: Path) -> None:
    ours: Any = Tuned(sgd())
    ours.head.from_checkpoint = {"weight"}
    fit(ours, tmp_path, [L2SP(ALPHA, BETA)])
    assert_close(weights(ours), weights(fit(Penalised(optimization=sgd(), brought="head.weight"), tmp_path)))


def test_it_is_so_with_clipping_and_dropped_layers(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optimization": sgd(), "layer_drop": 0.5, "gradient_clip_norm": 0.3}
    ours, theirs = Tuned(**settings), Penalised(**settings)
    for module, callbacks in ((ours, [L2SP(ALPHA, BETA)]), (theirs, [])):
        torch.manual_seed(1)  # the same layers are dropped
        fit(module, tmp_path, callbacks)
    assert_close(weights(ours), weights(theirs))


class Scaled(MixedPrecision):
    """The loss scaler of half precision, in single precision."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=4096.0))

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast("cpu", enabled=False)


@pytest.mark.parametrize("fused", [True, False])
def test_a_loss_scaler_does_not_scale_it(fused: bool, tmp_path: Path) -> None:
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.1, fused=fused))
    scaled = fit(Tuned(optimization), tmp_path, [L2SP(ALPHA, BETA)], plugins=[Scaled()])
    plain = fit(Tuned(sgd()), tmp_path, [L2SP(ALPHA, BETA)])
    assert_close(weights(scaled), weights(plain))


def test_the_pull_is_to_the_start_after_resuming_too(tmp_path: Path) -> None:
    whole = fit(Tuned(sgd()), tmp_path, [L2SP(ALPHA, BETA)])
    fit(Tuned(sgd()), tmp_path, [L2SP(ALPHA, BETA), SaveAt(STEPS // 2, tmp_path / "half.ckpt")])
    # Began elsewhere: whatever the model that is loaded, the checkpoint's start is the one.
    resumed = Tuned(sgd(), seed=5)
    fit(resumed, tmp_path, [L2SP(ALPHA, BETA)], resume=tmp_path / "half.ckpt")
    assert resumed.rates == whole.rates[STEPS // 2 :]
    assert_equal(weights(resumed), weights(whole))


def test_a_checkpoint_of_another_choice_is_refused(tmp_path: Path) -> None:
    callback = L2SP()
    fit(Tuned(train="top-1"), tmp_path, [callback], max_steps=1)
    other = Tuned()
    kept = callback.state_dict()

    class Swapped(lightning.Callback):
        def on_fit_start(self, *others: Any) -> None:
            callback.load_state_dict(kept)

    with pytest.raises(InputError, match="another model or another model.train"):
        fit(other, tmp_path, [Swapped(), callback], max_steps=1)


def test_nothing_to_pull(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(Tuned(train="head"), tmp_path, [L2SP()], max_steps=1)
    assert "callbacks.l2sp.alpha=0.01 changes nothing" in caplog.text
    module = Tuned()
    module.head.requires_grad_(False)
    with pytest.raises(InputError, match="callbacks.l2sp.beta=0.01 is for heads"):
        fit(module, tmp_path, [L2SP()])


@pytest.mark.parametrize("settings", [{"alpha": -0.1}, {"beta": float("inf")}, {"alpha": float("nan")}])
def test_values_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"callbacks.l2sp.{next(iter(settings))}="):
        L2SP(**settings)
