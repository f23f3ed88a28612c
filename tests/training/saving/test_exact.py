"""From any checkpoint, training goes on as though it had never stopped."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from learner import Event, Learner, fit, rows

from w2v_abx.system.signals import Stopped, Watch
from w2v_abx.training.saving.files import checkpoint_of, load

TRAINERS: dict[str, dict[str, Any]] = {
    "by epochs": {},
    "by steps": {"max_epochs": -1, "max_steps": 16},
    "inside epochs, too": {"val_check_interval": 2},
    "by steps, inside": {"max_epochs": -1, "max_steps": 16, "val_check_interval": 2},
    "across epochs": {"val_check_interval": 4, "check_val_every_n_epoch": None},
    "every second epoch": {"check_val_every_n_epoch": 2},
    "no validation": {"limit_val_batches": 0},
    "short epochs": {"limit_train_batches": 4},
}


def after(events: list[Event], step: int) -> list[Event]:
    """What comes after so many steps and the validation that follows them."""
    return events[next(i for i, event in enumerate(events) if event[:2] == ("train", step)) :]


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("name", TRAINERS)
def test_from_every_step(name: str, asks: bool, shards: Path, tmp_path: Path) -> None:
    settings = TRAINERS[name]
    keep: dict[str, Any] = {"every_steps": 1, "keep": 100}
    whole = fit(tmp_path / "whole", shards, module=Learner(asks=asks), saving=keep, **settings)
    steps = sum(event[0] == "train" for event in whole.events)
    assert len({event[-1] for event in whole.events if event[0] == "train"}) == steps
    for step in (4, 6, 7, 11)[asks:]:
        folder = tmp_path / str(step)
        folder.mkdir()
        shutil.copy(tmp_path / "whole" / "metrics.csv", folder)
        saved = tmp_path / "whole" / "checkpoints" / f"step-{step:08d}.ckpt"
        resumed = fit(folder, shards, saved, module=Learner(asks=asks), **settings)
        assert resumed.events == after(whole.events, step), step
        assert all(map(torch.equal, resumed.parameters(), whole.parameters()))
        assert rows(folder) == rows(tmp_path / "whole")
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["by epochs", "by steps, inside"])
def test_a_validation_that_was_given_up_is_begun_again(name: str, shards: Path, tmp_path: Path) -> None:
    settings = TRAINERS[name]
    whole = fit(tmp_path / "whole", shards, **settings)
    for number in range(sum(event[0] == "valid" for event in whole.events)):
        folder = tmp_path / str(number)
        seen = iter(range(100))

        def happen(event: Event, number: int = number, seen: Iterator[int] = seen) -> None:
            if event[0] == "valid" and next(seen) == number:
                os.kill(os.getpid(), signal.SIGTERM)

        stopped = Learner(happen, asks=bool(number % 2))
        with pytest.raises(Stopped), Watch(["SIGTERM"]):
            fit(folder, shards, module=stopped, **settings)
        newest = checkpoint_of(folder)
        assert newest is not None
        resumed = fit(folder, shards, newest, module=Learner(asks=bool(number % 2)), **settings)
        given_up = stopped.events[-1][0] == "valid"  # the last one of a run by steps is finished instead
        assert given_up or resumed.events == []
        assert [*(stopped.events[:-1] if given_up else stopped.events), *resumed.events] == whole.events
        assert all(map(torch.equal, resumed.parameters(), whole.parameters()))
        assert rows(folder) == rows(tmp_path / "whole")


def test_a_step_that_was_given_up_is_begun_again(shards: Path, tmp_path: Path) -> None:
    """As the thermal callback gives it up: a checkpoint is written in the middle of it."""
    whole = fit(tmp_path / "whole", shards)

    for step in (0, 3, 6):

        class Half(Learner):
            def loss(self, micro: Any, totals: Any, step: int = step) -> dict[str, torch.Tensor]:
                shares = super().loss(micro, totals)
                if self.global_step == step:
                    self.trainer.save_checkpoint(tmp_path / f"half{step}.ckpt")
                return shares

        fit(tmp_path / "half", shards, module=Half())
        resumed = fit(tmp_path / "resumed", shards, tmp_path / f"half{step}.ckpt")
        assert resumed.events == after(whole.events, step)
        assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


def test_clips_that_are_read_ahead(shards: Path, tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", shards, saving={"every_steps": 1, "keep": 100}, workers=2)
    for step in (2, 6, 9):
        saved = tmp_path / "whole" / "checkpoints" / f"step-{step:08d}.ckpt"
        resumed = fit(tmp_path / "resumed", shards, saved, workers=2)
        assert resumed.events == after(whole.events, step)
        assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


STEPS: dict[str, Any] = {"max_epochs": -1}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({**STEPS, "max_steps": 4}, {**STEPS, "max_steps": 14}),
        ({**STEPS, "max_steps": 6}, {**STEPS, "max_steps": 14}),
        ({**STEPS, "max_steps": 8, "val_check_interval": 2}, {**STEPS, "max_steps": 14, "val_check_interval": 2}),
        ({**STEPS, "max_steps": 8}, {"max_epochs": 2}),
        ({"max_epochs": 1}, {"max_epochs": 2}),
        ({"max_epochs": 1}, {**STEPS, "max_steps": 14}),
    ],
)
def test_a_training_that_goes_on_beyond_its_end(
    first: dict[str, Any], then: dict[str, Any], shards: Path, tmp_path: Path
) -> None:
    whole = fit(tmp_path / "whole", shards, **then)
    ended = fit(tmp_path, shards, **first)
    resumed = fit(tmp_path, shards, tmp_path / "checkpoints" / "last.ckpt", **then)
    assert [*ended.events, *resumed.events] == whole.events
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))
    assert rows(tmp_path) == rows(tmp_path / "whole")


def test_a_training_that_a_callback_ended_is_at_its_end(shards: Path, tmp_path: Path) -> None:
    class Ending(Learner):
        def on_validation_end(self) -> None:
            self.trainer.should_stop = True

    ended = fit(tmp_path, shards, module=Ending())
    saved = load(tmp_path / "checkpoints" / "last.ckpt")
    assert saved["global_step"] == 6
    assert saved["w2v_abx"]["stopping"]
    on = fit(tmp_path / "on", shards, tmp_path / "checkpoints" / "last.ckpt", max_epochs=2)
    assert [event[1] for event in on.events if event[0] == "train"] == [6, 7, 8, 9, 10, 11]
    assert ended.events == fit(tmp_path / "whole", shards, max_epochs=1).events
