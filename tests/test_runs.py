import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from w2v_abx.errors import InputError, NotWritten, Unlearnable
from w2v_abx.runs import Run, run_folder
from w2v_abx.system.atomic import UNFINISHED
from w2v_abx.system.signals import Stopped, Watch
from w2v_abx.training.saving.phases import add_phase


def config(**settings: Any) -> DictConfig:
    return OmegaConf.create({"seed": 3, "paths": {"data": "d"}, "folder": "${paths.data}/x", **settings})


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def test_a_run_records_what_it_was_and_keeps_its_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", config())
    assert facts(run.folder)["state"] == "running"
    assert OmegaConf.load(run.folder / "config.yaml").folder == "d/x"
    with run:
        run.record(verdict="no difference")
    found = facts(run.folder)
    assert found["state"] == "finished"
    assert found["seed"] == 3
    assert found["verdict"] == "no difference"
    assert found["wall_seconds"] >= 0
    assert found["packages"]["torch"]
    with pytest.raises(InputError, match="already holds a run"):
        Run(tmp_path / "run", config())


def test_what_a_run_is_outlasts_a_power_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.add(Path(f"/proc/self/fd/{handle}").readlink().name.rpartition("-")[2])
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with Run(tmp_path, config()):
        add_phase(tmp_path, "before", [])
    assert synced >= {"run.json", "config.yaml", "phases.json"}


def test_a_run_that_stops_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too hot"), Run(tmp_path, OmegaConf.create({"seed": 0})):
        raise InputError("too hot")
    assert facts(tmp_path)["state"] == "stopped: too hot"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Stopped(signal.SIGTERM), "preempted"),
        (Stopped(signal.SIGINT), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_run_that_was_asked_to_stop(error: BaseException, state: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), Run(tmp_path, config()):
        raise error
    assert facts(tmp_path)["state"] == state


@pytest.mark.parametrize(
    ("error", "raised", "state"),
    [
        (InputError("a program has ended"), Stopped, "preempted"),
        (NotWritten("the disk is full"), NotWritten, "stopped: the disk is full"),
        (Unlearnable("the loss is high"), Unlearnable, "stopped: the loss is high"),
    ],
)
def test_what_went_wrong_after_a_signal(
    error: Exception, raised: type[BaseException], state: str, tmp_path: Path
) -> None:
    def work(watch: Watch) -> None:
        watch.patient = True
        os.kill(os.getpid(), signal.SIGTERM)
        raise error

    with pytest.raises(raised), Watch(["SIGTERM"]) as watch, Run(tmp_path, config()):
        work(watch)
    assert facts(tmp_path)["state"] == state


def begun(folder: Path, **settings: Any) -> Path:
    """A run that was killed after its first phase."""
    run = Run(folder, config(**settings))
    add_phase(folder, "before", [])
    run.spent = 100.0
    run.record(command="w2v-abx train seed=3")
    run._lock.close()
    return folder


def test_going_on(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", trainer={"max_epochs": 1})
    first = facts(folder)
    with Run(folder, config(trainer={"max_epochs": 2}), resume=True) as run:
        assert run.resumed
        assert not run.finished
    found = facts(folder)
    assert found["id"] == first["id"]
    assert found["started"] == first["started"]
    assert found["wall_seconds"] >= 100
    assert [part["changed"] for part in found["resumed"]] == [["trainer.max_epochs"]]
    assert OmegaConf.load(folder / "config.yaml").trainer.max_epochs == 2
    assert found["state"] == "finished"
    before = (folder / "run.json").read_bytes()
    with Run(folder, config(trainer={"max_epochs": 2}), resume=True) as run:
        assert run.finished
    assert (folder / "run.json").read_bytes() == before


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="is another: seed was 3 and is 4"):
        Run(folder, config(seed=4), resume=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("left", ["", "{", None])
def test_a_run_that_had_done_nothing_begins_anew(left: str | None, tmp_path: Path) -> None:
    with pytest.raises(InputError), Run(tmp_path, config()):
        raise InputError("seed=3 is not a good number")
    if left is not None:
        (tmp_path / "run.json").write_text(left)
    with Run(tmp_path, config(seed=4), resume=True) as run:
        assert not run.resumed
    assert (facts(tmp_path)["seed"], facts(tmp_path)["state"]) == (4, "finished")


def test_a_run_whose_facts_were_lost(tmp_path: Path) -> None:
    """As after a power failure: its checkpoints are those of another run all the same."""
    folder = begun(tmp_path / "run")
    for left in ("", None):
        (folder / "run.json").unlink(missing_ok=True)
        if left is not None:
            (folder / "run.json").write_text(left)
        with pytest.raises(InputError, match="is another: seed was 3 and is 4"):
            Run(folder, config(seed=4), resume=True)
        with pytest.raises(InputError, match="already holds a run"):
            Run(folder, config())
    (folder / f"{UNFINISHED}77-phases.json").write_text("{")
    (folder / "abx" / "after" / f"{UNFINISHED}encoder-x1").mkdir(parents=True)
    (folder / "abx" / "after" / f"{UNFINISHED}encoder-x1" / "config.json").write_text("{")
    with Run(folder, config(), resume=True) as run:
        assert run.resumed
    assert sorted(path.name for path in folder.rglob(".*")) == [".lock"]
    assert facts(folder)["state"] == "finished"
    for left in ("", "{", None):
        (folder / "run.json").unlink(missing_ok=True)
        (folder / "config.yaml").unlink(missing_ok=True)
        if left is not None:
            (folder / "config.yaml").write_text(left)
        with pytest.raises(InputError, match="config.yaml does not tell what the run there was begun with"):
            Run(folder, config(), resume=True)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    with Run(folder, config(), resume=True), pytest.raises(InputError, match="another process is at work in .*run"):
        Run(folder, config(), resume=True)
    Run(folder, config(), resume=True)


def test_the_folder_of_a_run(tmp_path: Path) -> None:
    parent = str(tmp_path / "name")
    assert run_folder(parent, "now", None) == f"{parent}/now"
    assert run_folder(parent, "now", "a.ckpt") == f"{parent}/now"
    assert run_folder(parent, "now", "auto") == f"{parent}/now"
    for number, name in enumerate(("old", "newer", "newest", "finished", "idle", "scored")):
        folder = begun(tmp_path / "name" / name)
        if name == "finished":
            with Run(folder, config(), resume=True):
                pass
        elif name == "idle":
            (folder / "phases.json").unlink()
        elif name == "scored":
            (folder / "run.json").write_text((folder / "run.json").read_text().replace("abx train", "abx abx"))
        os.utime(folder / "run.json", (time.time() - 1000 + number,) * 2)
    assert run_folder(parent, "now", None) == f"{parent}/now"
    assert run_folder(parent, "now", "auto") == f"{parent}/newest"
    with FileLock(tmp_path / "name" / "newest" / ".lock"):
        assert run_folder(parent, "now", "auto") == f"{parent}/newer"


def test_a_full_disk_does_not_hide_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    run = Run(tmp_path, config())
    monkeypatch.setattr("w2v_abx.runs.write_json", full)
    with pytest.raises(InputError, match="the checkpoint was not written"), run:
        raise InputError("the checkpoint was not written")


def test_a_folder_in_which_nothing_was_done_is_begun_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match="a typo"), Run(tmp_path, config()):
            raise InputError("a typo")
    (tmp_path / "abx" / "before").mkdir(parents=True)
    (tmp_path / "abx" / "before" / "summary.json").touch()
    with pytest.raises(InputError, match="already holds a run"):
        Run(tmp_path, config())
