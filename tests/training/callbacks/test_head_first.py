from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from tuned import STEPS, SaveAt, Tuned, assert_equal, fit, weights

from w2v_abx.data import Batch
from w2v_abx.errors import InputError
from w2v_abx.training.callbacks import HeadFirst
from w2v_abx.training.microbatch import search

FIRST = 4


class Watch(lightning.Callback):
    """After each step: the weights, whether the encoder had gradients, and whether it could drop values out."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.modes: list[bool] = []

    def on_train_batch_start(self, trainer: lightning.Trainer, module: Any, *others: Any) -> None:
        self.modes.append(module.encoder.model.encoder.layers[0].training)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *others: Any) -> None:
        self.weights.append(weights(module))


@pytest.mark.parametrize("train", ["all", "lora"])
def test_the_encoder_waits(train: str, tmp_path: Path) -> None:
    module, watch = Tuned(train=train), Watch()
    start = weights(module)
    trains = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    fit(module, tmp_path, [HeadFirst(FIRST), watch])
    for step, after in enumerate(watch.weights, start=1):
        moved = {name for name in trains if not torch.equal(after[name], start[name])}
        heads = {name for name in moved if name.startswith("head.")}
        assert len(heads) == 2
        assert (moved == heads) == (step <= FIRST)
    assert watch.modes == [False] * FIRST + [True] * (STEPS - FIRST)
    assert trains == {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_the_encoder_starts_as_if_the_first_steps_had_been_another_run(tmp_path: Path) -> None:
    """Adam has no memory of steps in which the encoder had no part."""
    module = fit(Tuned(), tmp_path, [HeadFirst(FIRST)])
    states = {
        name: module.trainer.optimizers[0].state[parameter]["step"]
        for name, parameter in module.named_parameters()
        if parameter in module.trainer.optimizers[0].state
    }
    for name, steps in states.items():
        assert int(steps) == (STEPS if name.startswith("head.") else STEPS - FIRST)


@pytest.mark.parametrize("saved", [FIRST - 1, FIRST, FIRST + 2])
def test_a_resumed_run_is_the_same(saved: int, tmp_path: Path) -> None:
    whole = fit(Tuned(), tmp_path, [HeadFirst(FIRST), SaveAt(saved, tmp_path / "part.ckpt")])
    resumed = fit(Tuned(seed=3), tmp_path, [HeadFirst(FIRST)], resume=tmp_path / "part.ckpt")
    assert_equal(weights(resumed), weights(whole))


def test_how_much_fits_is_found_anew_with_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Frugal(Tuned):
        """All clips fit while the encoder is frozen, one when it trains."""

        def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, torch.Tensor]:
            if len(micro) > 1 and any(weight.requires_grad for weight in self.encoder.parameters()):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().loss(micro, totals)

    reserve, reserved = search._reserve, []

    def watched(module: Any) -> torch.Tensor:
        reserved.append(len(made := reserve(module)))
        return made

    monkeypatch.setattr("w2v_abx.training.microbatch.module.reports_full_memory", lambda device: True)
    monkeypatch.setattr(search, "_reserve", watched)
    path = tmp_path / "part.ckpt"
    whole = fit(Frugal(microbatch="auto"), tmp_path, [HeadFirst(FIRST), SaveAt(FIRST, path)])
    assert torch.load(path, weights_only=True)["microbatches"]["found"] == 3 * 4_000
    resumed = fit(Frugal(microbatch="auto"), tmp_path, [HeadFirst(FIRST)], resume=path)
    for module in (whole, resumed):
        assert module.microbatches.found == 4_000
        assert module.microbatches.memory["samples"].size is None  # no step ran out
    heads, encoder = (
        2 * sum(weight.nbytes for weight in part.parameters() if weight.requires_grad)
        for part in (whole.head, whole.encoder)
    )
    assert reserved == [heads, encoder, encoder]  # for the moments that the next step adds


def test_a_run_that_stops_early_leaves_the_encoder_free(tmp_path: Path) -> None:
    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, *others: Any) -> None:
            trainer.should_stop = True

    module = fit(Tuned(), tmp_path, [HeadFirst(FIRST), Stop()])
    assert module.trainer.global_step < FIRST
    assert any(parameter.requires_grad for parameter in module.encoder.parameters())


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for steps in (0, 1.5, True):
        with pytest.raises(InputError, match="callbacks.head_first.steps="):
            HeadFirst(steps)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"leaves the encoder none of the run's {STEPS} steps"):
        fit(Tuned(), tmp_path, [HeadFirst(STEPS)])
    module = Tuned()
    module.head.requires_grad_(False)
    with pytest.raises(InputError, match="no heads to train first"):
        fit(module, tmp_path, [HeadFirst(1)])
