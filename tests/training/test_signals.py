"""Signals that ask a training to save and to stop."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from learner import Event, Learner, fit, newest_step, rows
from small import quiet_trainer

from w2v_abx.data import ShardDataModule
from w2v_abx.data.loader import EpochLoader
from w2v_abx.errors import InputError
from w2v_abx.system import signals
from w2v_abx.system.signals import Stopped, Watch
from w2v_abx.training.microbatch import NonFiniteLoss
from w2v_abx.training.saving.files import checkpoint_of
from w2v_abx.training.trainers import watching


def at(place: Event, *numbers: signal.Signals) -> Learner:
    """A learner that gets signals at an event, like from another process."""

    def happen(event: Event) -> None:
        if event[: len(place)] == place:
            for number in numbers:
                os.kill(os.getpid(), number)

    return Learner(happen)


def stopped(folder: Path, shards: Path, learner: Learner, **settings: Any) -> Stopped:
    with pytest.raises(Stopped) as caught, Watch(["SIGTERM", "SIGINT", "SIGUSR1"]):
        fit(folder, shards, module=learner, **settings)
    assert caught.value.code == signals.EXIT_STATUS
    assert not signals.asked()
    return caught.value


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_the_step_under_way_is_done_and_saved(
    number: signal.Signals, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(each) for each in signal.Signals]
    whole = fit(tmp_path / "whole", shards)
    first = at(("train", 7), number, signal.SIGTERM)
    stop = stopped(tmp_path, shards, first)
    assert (stop.signal, stop.state) == (number, "interrupted" if number == signal.SIGINT else "preempted")
    assert f"w2v-abx: stopped by {number.name} after step 8, saved in {tmp_path}" in capfd.readouterr().err
    assert [signal.getsignal(each) for each in signal.Signals] == handlers
    assert newest_step(tmp_path) == 8
    second = fit(tmp_path, shards, checkpoint_of(tmp_path))
    assert [*first.events, *second.events] == whole.events
    assert all(map(torch.equal, second.parameters(), whole.parameters()))
    assert rows(tmp_path) == rows(tmp_path / "whole")


def test_further_interrupts_keep_what_the_first_has_promised(
    shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Impatient(Learner):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    whole = fit(tmp_path / "whole", shards)
    first = Impatient(at(("train", 7), signal.SIGINT, signal.SIGINT).happen)
    stopped(tmp_path, shards, first, saving={"every_steps": None, "every_epochs": None})
    assert newest_step(tmp_path) == 8
    told = capfd.readouterr().err.splitlines()
    assert sum("w2v-abx: Ctrl-C: ends when this step is done and saved" in line for line in told) == 1
    assert sum("w2v-abx: it is ending; Ctrl-C after 10 s more would end it at once" in line for line in told) >= 2
    resumed = fit(tmp_path, shards, checkpoint_of(tmp_path))
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


def test_at_the_very_end(shards: Path, tmp_path: Path) -> None:
    stopped(tmp_path, shards, at(("train", 5), signal.SIGTERM), max_epochs=-1, max_steps=6)
    assert newest_step(tmp_path) == 6


def test_outside_of_training_it_stops_at_once() -> None:
    with pytest.raises(Stopped, match="75"), Watch(["SIGTERM"]):
        os.kill(os.getpid(), signal.SIGTERM)


def test_what_others_failed_of_is_put_down_to_the_signal(shards: Path, tmp_path: Path) -> None:
    """A program that clips come through gets the signal, too, and ends."""
    whole = fit(tmp_path / "whole", shards)

    class Piped(Learner):
        def loss(self, micro: Any, totals: Any) -> dict[str, torch.Tensor]:
            if self.global_step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
                raise InputError("the stream has ended")
            return super().loss(micro, totals)

    stop = stopped(tmp_path, shards, Piped())
    assert isinstance(stop.__cause__, InputError)
    assert newest_step(tmp_path) == 4
    resumed = fit(tmp_path, shards, checkpoint_of(tmp_path))
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


@pytest.mark.parametrize(("epoch", "batch"), [(0, 4), (1, 0)])
def test_a_batch_that_does_not_come(
    epoch: int, batch: int, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes, and what it did to others, between two steps."""
    settings: dict[str, Any] = {"val_check_interval": 4}
    whole = fit(tmp_path / "whole", shards, **settings)
    give = EpochLoader.__iter__

    def some(self: EpochLoader) -> Any:
        for number, made in enumerate(give(self)):
            if self.trainer is not None and (self.trainer.current_epoch, number) == (epoch, batch):
                os.kill(os.getpid(), signal.SIGTERM)
                raise InputError("the stream has ended")
            yield made

    with monkeypatch.context() as patch:
        patch.setattr(EpochLoader, "__iter__", some)
        stopped(tmp_path, shards, first := Learner(), **settings)
    assert newest_step(tmp_path) == 6 * epoch + batch
    resumed = fit(tmp_path, shards, checkpoint_of(tmp_path), **settings)
    assert [*first.events, *resumed.events] == whole.events
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


def test_a_validation_whose_clips_do_not_come(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(tmp_path / "whole", shards)
    give = EpochLoader.__iter__

    def none(self: EpochLoader) -> Any:
        if self.trainer is None:  # those of the validation
            os.kill(os.getpid(), signal.SIGTERM)
            raise InputError("the stream has ended")
        yield from give(self)

    with monkeypatch.context() as patch:
        patch.setattr(EpochLoader, "__iter__", none)
        stopped(tmp_path, shards, first := Learner())
    assert newest_step(tmp_path) == 6
    resumed = fit(tmp_path, shards, checkpoint_of(tmp_path))
    assert [*(event for event in first.events if event[0] == "train"), *resumed.events] == whole.events
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


@pytest.mark.parametrize("step", [7, 8])
def test_a_step_that_is_not_finite_is_not_put_down_to_the_signal(step: int, shards: Path, tmp_path: Path) -> None:
    """The host is told of it a step later: what is saved by then would go on without it."""

    class Bad(Learner):
        def loss(self, micro: Any, totals: Any) -> dict[str, torch.Tensor]:
            if self.global_step == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return {"loss": super().loss(micro, totals)["loss"] * (float("nan") if self.global_step == 7 else 1.0)}

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.05, fused=True)

    with pytest.raises(NonFiniteLoss, match="at step 7"), Watch(["SIGTERM"]):
        fit(tmp_path, shards, module=Bad(), saving={"every_steps": 5})
    assert newest_step(tmp_path) == 5


def test_a_full_disk_is_told_whatever_was_asked(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    def happen(event: Event) -> None:
        if event[:2] == ("train", 4):
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr("os.write", full)

    with pytest.raises(InputError, match="step-00000005.ckpt was not written"), Watch(["SIGTERM"]):
        fit(tmp_path, shards, module=Learner(happen))


def test_an_update_that_was_cut_short_is_not_saved(shards: Path, tmp_path: Path) -> None:
    class Half(Learner):
        def on_train_batch_end(self, *_: Any) -> None:
            if self.global_step == 5:
                raise InputError("anything")

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            super().on_before_optimizer_step(optimizer)
            if self.global_step == 8:
                os.kill(os.getpid(), signal.SIGTERM)
                raise InputError("in the middle of the update")

    with pytest.raises(InputError, match="anything"), Watch(["SIGTERM"]):
        fit(tmp_path / "no signal", shards, module=Half())
    assert checkpoint_of(tmp_path / "no signal") is None

    class Later(Half):
        def on_train_batch_end(self, *_: Any) -> None:
            pass

    stopped(tmp_path, shards, Later(), saving={"every_steps": 3})
    assert newest_step(tmp_path) == 6


def test_whoever_handled_it_before_is_called_afterwards(shards: Path, tmp_path: Path) -> None:
    """As submitit, which then queues the job again."""
    called: list[Any] = []

    def handler(number: int, frame: Any) -> None:
        called.append((number, newest_step(tmp_path)))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        stopped(tmp_path, shards, at(("train", 2), signal.SIGUSR1))
        assert called == [(signal.SIGUSR1, 3)]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Watch(["SIGHUP"]):
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_lightning_does_not_handle_them(shards: Path, tmp_path: Path) -> None:
    """Neither in an evaluation nor while callbacks work before the first step."""
    seen: list[Any] = []

    class Early(lightning.Callback):
        def on_train_start(self, *_: Any) -> None:
            seen.append(signal.getsignal(signal.SIGTERM))

    class Tested(Learner):
        def on_test_batch_start(self, *_: Any) -> None:
            seen.append(signal.getsignal(signal.SIGTERM))

        def test_step(self, batch: Any, index: int) -> None:
            pass

    with Watch(["SIGTERM"]) as watch:
        fit(tmp_path, shards, callbacks=[watching(), Early()], max_epochs=1)
        trainer = quiet_trainer(tmp_path, callbacks=[watching()])
        trainer.test(Tested(), ShardDataModule(shards, batch_size=4).val_dataloader(), verbose=False)
        assert signal.getsignal(signal.SIGTERM) == watch._handle
    assert seen == [watch._handle] * 2


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP", "TERM", 15])
def test_what_is_no_signal_to_wait_for(name: Any) -> None:
    with pytest.raises(InputError, match=f"signals={name!r}|signals={name}"):
        Watch([name])
