"""When checkpoints are written, and which are kept."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from learner import Event, Learner, fit

from w2v_abx.errors import InputError
from w2v_abx.training.saving import Checkpoints, checkpoints
from w2v_abx.training.saving.files import checkpoint_of, load


def kept(folder: Path) -> dict[str, int]:
    """The steps of the checkpoints in a folder, by name."""
    return {path.name: load(path)["global_step"] for path in sorted((folder / "checkpoints").iterdir())}


def steps(folder: Path) -> list[int]:
    return sorted(step for name, step in kept(folder).items() if name.startswith("step-"))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of every checkpoint that is written."""
    found: list[int] = []
    save = Checkpoints._save

    def noted(self: Checkpoints, trainer: Any) -> None:
        before = set(self.saved)
        save(self, trainer)
        found.extend(set(self.saved) - before)

    monkeypatch.setattr(Checkpoints, "_save", noted)
    return found


def test_by_steps_and_the_last_k(written: list[int], shards: Path, tmp_path: Path) -> None:
    fit(tmp_path, shards, saving={"every_steps": 4, "keep": 3})
    assert written == [4, 8, 12, 16, 18]
    assert kept(tmp_path) == {"last.ckpt": 18} | {f"step-{step:08d}.ckpt": step for step in (12, 16, 18)}


def test_by_epochs(written: list[int], shards: Path, tmp_path: Path) -> None:
    fit(tmp_path, shards, saving={"every_epochs": 2}, max_epochs=5)
    assert written == [12, 24, 30]
    assert steps(tmp_path) == [24, 30]


def test_by_minutes(written: list[int], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)

    def minute(event: Event) -> None:
        nonlocal now
        now += 60 if event[0] == "train" else 0

    fit(tmp_path, shards, module=Learner(minute), saving={"every_minutes": 5})
    assert written == [5, 10, 15, 18]


class Rated(Learner):
    """Logs a value after each validation."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values

    def on_validation_epoch_end(self) -> None:
        self.log("valid/score", self.values[self.global_step // 6 - 1])


SCORES = [0.5, 0.9, 0.7, float("nan"), 0.9, 0.8]


@pytest.mark.parametrize(
    ("mode", "count", "best"), [("max", 1, [12]), ("min", 1, [6]), ("max", 2, [12, 30]), ("max", 0, [])]
)
def test_the_best(mode: str, count: int, best: list[int], shards: Path, tmp_path: Path) -> None:
    saving = {"monitor": "valid/score", "mode": mode, "keep_best": count, "keep": 1, "every_steps": 5}
    fit(tmp_path, shards, module=Rated(SCORES), saving=saving, max_epochs=6)
    assert steps(tmp_path) == sorted({*best, 36})
    assert kept(tmp_path).get("best.ckpt") == (best[0] if best else None)


def test_the_best_of_a_run_that_was_killed(shards: Path, tmp_path: Path) -> None:
    saving: dict[str, Any] = {"monitor": "valid/score", "keep": 1, "keep_best": 2}
    fit(tmp_path / "whole", shards, module=Rated(SCORES), saving=saving, max_epochs=6)
    folder = tmp_path / "killed"
    fit(folder, shards, module=Rated(SCORES), saving=saving, max_epochs=3)
    (folder / "checkpoints" / "step-00000001.ckpt").write_bytes(b"what a killed process had not yet removed")
    fit(folder, shards, folder / "checkpoints" / "last.ckpt", module=Rated(SCORES), saving=saving, max_epochs=6)
    assert kept(folder) == kept(tmp_path / "whole")


def test_the_best_by_another_metric(shards: Path, tmp_path: Path) -> None:
    """What a run was begun with counted otherwise."""
    newest = tmp_path / "checkpoints" / "last.ckpt"
    saving: dict[str, Any] = {"monitor": "valid/score", "keep": 1}
    fit(tmp_path, shards, module=Rated(SCORES), saving=saving, max_epochs=2)
    fit(tmp_path, shards, newest, module=Rated(SCORES), saving={**saving, "mode": "min"}, max_epochs=3)
    assert kept(tmp_path) == {"best.ckpt": 18, "last.ckpt": 18, "step-00000018.ckpt": 18}
    fit(tmp_path, shards, newest, module=Rated(SCORES), saving={"keep": 1}, max_epochs=4)
    assert kept(tmp_path) == {"last.ckpt": 24, "step-00000024.ckpt": 24}


def test_a_checkpoint_of_another_folder(shards: Path, tmp_path: Path) -> None:
    fit(tmp_path / "first", shards, max_epochs=1)
    fit(tmp_path / "second", shards, tmp_path / "first" / "checkpoints" / "last.ckpt", max_epochs=2)
    assert steps(tmp_path / "first") == [6]
    assert steps(tmp_path / "second") == [12]
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "second", moved, symlinks=True)
    assert kept(moved)["last.ckpt"] == 12


def test_a_metric_that_is_not_there(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="callbacks.checkpoints.monitor='valid/scor' is not logged; there are .*valid/loss"
    ):
        fit(tmp_path, shards, saving={"monitor": "valid/scor"})


def test_what_a_killed_process_left_is_removed(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".77-step-00000012.ckpt").write_bytes(b"half")
    fit(tmp_path, shards, max_epochs=1)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["last.ckpt", "step-00000006.ckpt"]


def test_a_full_disk_ends_the_training(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = {"every_steps": 2}
    learner = Learner(lambda event: monkeypatch.setattr("os.write", full) if event[:2] == ("train", 4) else None)

    def full(handle: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="step-00000006.ckpt was not written .No space left on device.: it takes 0.0"):
        fit(tmp_path, shards, module=learner, saving=saving)
    monkeypatch.undo()
    assert kept(tmp_path) == {"last.ckpt": 4, "step-00000002.ckpt": 2, "step-00000004.ckpt": 4}
    whole = fit(tmp_path / "whole", shards)
    resumed = fit(tmp_path, shards, checkpoint_of(tmp_path))
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_steps": 0}, "every_steps=0 must be a whole number from 1"),
        ({"every_steps": True}, "every_steps=True"),
        ({"every_epochs": 1.5}, "every_epochs=1.5"),
        ({"every_minutes": 0}, "every_minutes=0 must be a number above 0"),
        ({"every_minutes": float("nan")}, "every_minutes=nan"),
        ({"keep": 0}, "keep=0"),
        ({"keep_best": -1}, "keep_best=-1"),
        ({"mode": "best"}, "callbacks.checkpoints.mode='best' must be one of max, min"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Checkpoints(tmp_path, **settings)
