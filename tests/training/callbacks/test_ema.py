from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from noises import noises
from small import quiet_trainer
from torch import Tensor
from tuned import STEPS, SaveAt, Tuned, assert_close, assert_equal, fit, weights

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.errors import InputError
from w2v_abx.training.callbacks import Ema, HeadFirst
from w2v_abx.training.callbacks.abx_monitor import AbxMonitor

DECAY = 0.8


class Watch(lightning.Callback):
    """The weights at the start and after each step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        self.seen.append(weights(module))

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *others: Any) -> None:
        self.seen.append(weights(module))


def averages(seen: list[dict[str, Tensor]], warmup: bool) -> list[dict[str, Tensor]]:
    """The definition, one weight at a time, in float64."""
    found = [{name: weight.double() for name, weight in seen[0].items()}]
    for step, now in enumerate(seen[1:], start=1):
        decay = min(DECAY, (1 + step) / (10 + step)) if warmup else DECAY
        found.append({name: decay * found[-1][name] + (1 - decay) * weight for name, weight in now.items()})
    return [{name: weight.float() for name, weight in average.items()} for average in found]


@pytest.mark.parametrize("train", ["all", "lora"])
@pytest.mark.parametrize("warmup", [False, True])
def test_the_run_ends_with_the_average(warmup: bool, train: str, tmp_path: Path) -> None:
    plain, watch = Watch(), Watch()
    fit(Tuned(train=train), tmp_path, [plain])
    module = fit(Tuned(train=train), tmp_path, [Ema(DECAY, warmup), watch])
    for with_average, without in zip(watch.seen, plain.seen, strict=True):
        assert_equal(with_average, without)  # training is the same to the bit
    assert_close(weights(module), averages(watch.seen, warmup)[-1], 1e-6)
    with pytest.raises(AssertionError):
        assert_equal(weights(module), watch.seen[-1])


def test_validation_sees_the_average_and_training_does_not(tmp_path: Path) -> None:
    plain, watch = Watch(), Watch()
    fit(Tuned(), tmp_path, [plain])
    module = Tuned()
    fit(module, tmp_path, [Ema(DECAY), watch], limit_val_batches=2, val_check_interval=3, num_sanity_val_steps=1)
    for with_validation, without in zip(watch.seen, plain.seen, strict=True):
        assert_equal(with_validation, without)
    expected = averages(watch.seen, warmup=True)
    assert len(module.validated) == 4
    for found, step in zip(module.validated, (0, 3, 6, 9), strict=True):  # 0: the sanity check
        assert_close(found, expected[step], 1e-6)


def test_after_training_validation_is_of_the_average_too(tmp_path: Path) -> None:
    module = fit(Tuned(), tmp_path, [Ema(DECAY)], limit_val_batches=1, check_val_every_n_epoch=100)
    average = weights(module)
    module.trainer.validate(module, module.trainer.train_dataloader, verbose=False)
    assert_equal(module.validated[-1], average)
    assert_equal(weights(module), average)


@pytest.mark.parametrize("first", [True, False])
def test_a_resumed_run_is_the_same(first: bool, tmp_path: Path) -> None:
    """Also when the checkpoint was made after a step and before the average had followed it."""
    path = tmp_path / "half.ckpt"
    callbacks: list[lightning.Callback] = [Ema(DECAY), SaveAt(STEPS // 2, path)]
    whole = fit(Tuned(), tmp_path, callbacks if first else callbacks[::-1])
    watch = Watch()
    resumed = fit(Tuned(seed=3), tmp_path, [Ema(DECAY), watch], resume=path)
    assert_equal(weights(resumed), weights(whole))

    plain = Watch()
    fit(Tuned(), tmp_path, [plain])
    for ours, theirs in zip(watch.seen, plain.seen[STEPS // 2 :], strict=True):
        assert_equal(ours, theirs)


def test_a_checkpoint_made_in_validation_holds_the_weights(tmp_path: Path) -> None:
    """As one is when a signal comes then."""

    class Interrupted(lightning.Callback):
        def on_validation_batch_end(self, trainer: lightning.Trainer, *others: Any) -> None:
            trainer.save_checkpoint(tmp_path / "validation.ckpt")

    watch = Watch()
    callbacks = [Ema(DECAY), watch, Interrupted()]
    whole = fit(Tuned(), tmp_path, callbacks, limit_val_batches=1, val_check_interval=7)
    state = torch.load(tmp_path / "validation.ckpt", weights_only=True)["state_dict"]
    assert_equal({name: state[name] for name in watch.seen[7]}, watch.seen[7])
    resumed = fit(Tuned(seed=3), tmp_path, [Ema(DECAY)], resume=tmp_path / "validation.ckpt")
    assert_equal(weights(resumed), weights(whole))


def test_the_last_checkpoint_holds_the_weights_and_a_finished_run_the_average(tmp_path: Path) -> None:
    class Last(lightning.Callback):
        def on_train_end(self, trainer: lightning.Trainer, *others: Any) -> None:
            trainer.save_checkpoint(tmp_path / "last.ckpt")

    watch = Watch()
    whole = fit(Tuned(), tmp_path, [Ema(DECAY), watch, Last()])
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert_equal({name: state[name] for name in watch.seen[-1]}, watch.seen[-1])
    again = fit(Tuned(seed=3), tmp_path, [Ema(DECAY)], resume=tmp_path / "last.ckpt")
    assert_equal(weights(again), weights(whole))
    assert again.rates == []


def test_a_checkpoint_without_an_average(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(Tuned(), tmp_path, [SaveAt(STEPS // 2, tmp_path / "half.ckpt"), SaveAt(STEPS, tmp_path / "last.ckpt")])
    watch = Watch()
    resumed = fit(Tuned(seed=3), tmp_path, [Ema(DECAY, warmup=False), watch], resume=tmp_path / "half.ckpt")
    assert f"begins at step {STEPS // 2}" in caplog.text
    assert_close(weights(resumed), averages(watch.seen, warmup=False)[-1], 1e-6)
    finished = fit(Tuned(seed=3), tmp_path, [Ema(DECAY)], resume=tmp_path / "last.ckpt")
    assert_equal(weights(finished), watch.seen[-1])


def test_weights_that_are_frozen_for_a_while_are_averaged_too(tmp_path: Path) -> None:
    watch = Watch()
    module = fit(Tuned(), tmp_path, [HeadFirst(3), Ema(DECAY), watch])
    assert_close(weights(module), averages(watch.seen, warmup=True)[-1], 1e-6)


def test_the_weights_are_back_after_an_error(tmp_path: Path) -> None:
    ema = Ema(DECAY)

    class Look(lightning.Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *others: Any) -> None:
            before = weights(module)
            with pytest.raises(ZeroDivisionError):
                self.fail(trainer, module)
            assert_equal(weights(module), before)

        def fail(self, trainer: lightning.Trainer, module: Any) -> None:
            with ema.averaged(trainer, module):
                assert_close(weights(module), averages(watch.seen, warmup=True)[-1], 1e-6)
                raise ZeroDivisionError

    watch = Watch()
    fit(Tuned(), tmp_path, [watch, Look(), ema], max_steps=3)
    assert len(watch.seen) == 4


@pytest.mark.parametrize("ema_first", [True, False])
def test_abx_in_training_can_be_of_the_average(ema_first: bool, tmp_path: Path) -> None:
    speech, setting = noises(tmp_path / "noises"), AbxSetting(batch_seconds=3.0)
    monitor = AbxMonitor(speech, setting, points_per_decade=None, every=4, average=True, folder=tmp_path)
    watch = Watch()
    callbacks: list[lightning.Callback] = [Ema(DECAY), monitor]
    module = fit(Tuned(), tmp_path, [*(callbacks if ema_first else callbacks[::-1]), watch], max_steps=4)
    plain = Watch()
    fit(Tuned(), tmp_path, [plain], max_steps=4)
    for with_monitor, without in zip(watch.seen, plain.seen, strict=True):
        assert_equal(with_monitor, without)

    for step, encoder in ((0, Tuned().encoder), (4, module.encoder)):
        expected = evaluate("a model", encoder, speech, setting, quiet_trainer(tmp_path)).scores
        for row in monitor.rows:
            if row["step"] == step:
                assert row["delta_std"] == expected[row["layer"], row["condition"]].delta.std
    assert {row["step"] for row in monitor.rows} == {0, 4}
    with pytest.raises(InputError, match="callbacks.monitor.average=true measures averaged weights"):
        fit(Tuned(), tmp_path, [AbxMonitor(speech, setting, average=True)])


def test_an_average_of_other_weights_is_refused(tmp_path: Path) -> None:
    ema = Ema()
    kept = {"steps": 0, "average": {"head.weight": torch.zeros(1, 16)}}

    class Swapped(lightning.Callback):
        def on_fit_start(self, *others: Any) -> None:
            ema.load_state_dict(kept)

    with pytest.raises(InputError, match="another model or another model.train"):
        fit(Tuned(), tmp_path, [Swapped(), ema], max_steps=1)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match="callbacks.ema.decay="):
        Ema(decay)
