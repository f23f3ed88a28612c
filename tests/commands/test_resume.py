"""`w2v-abx train` is stopped, killed and resumed, as a user sees it."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noises import noises
from small import ARCHITECTURE

from w2v_abx import audio
from w2v_abx.commands import train
from w2v_abx.models.encoder import Encoder
from w2v_abx.system.signals import EXIT_STATUS
from w2v_abx.training.saving import Checkpoints

Command = Callable[..., str]

TESTS = Path(__file__).resolve().parents[1]

SMALL = (
    "corpus=folder",
    "corpus.name=sounds",
    "corpus.root=sounds",
    "abx=item_file",
    "abx.items=speech/test.item",
    "abx.root=speech/audio",
    "model=local",
    "model.source=model",
    "model.dropout=0.1",
    "model.layer_drop=0.2",
    "thermal=off",
    "logger=csv",
    "data.batch_size=4",
    "data.crop_seconds=0.2",
    "baselines=[mfcc]",
    "measurements=null",
)


@pytest.fixture(autouse=True)
def _sounds_and_speech(tmp_path: Path) -> None:
    """What ``SMALL`` names: 24 clips of two kinds, a dozen files of speech, a model."""
    noises(tmp_path / "speech").items.write(tmp_path / "speech" / "test.item")
    rng = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "sounds" / ("frog", "rain")[number % 2] / f"{number}.wav"
        audio.save(path, (0.1 * rng.standard_normal(4_000)).astype(np.float32))
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are evaluated, in order."""
    names: list[str] = []
    evaluate = train.evaluate

    def noted(name: str, *arguments: Any) -> Any:
        names.append(name)
        return evaluate(name, *arguments)

    monkeypatch.setattr(train, "evaluate", noted)
    return names


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def assert_same(found: Path, expected: Path) -> None:
    """What two runs learned and logged is the same."""
    weights = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (found, expected)]
    assert weights[0]["global_step"] == weights[1]["global_step"]
    for name, weight in weights[1]["state_dict"].items():
        assert torch.equal(weights[0]["state_dict"][name], weight)
    for name in ("metrics.csv", "head.json", "abx/after/summary.json", "abx/before/pairs.csv", "comparisons.json"):
        assert (found / name).read_text() == (expected / name).read_text(), name
    for name in ("encoder/model.safetensors", "abx/mfcc/cells.parquet"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    assert (found / "report.html").stat().st_size > 1000


def test_a_run_that_is_stopped_and_resumed(run: Command, measured: list[str], tmp_path: Path) -> None:
    arguments = [argument for argument in SMALL if argument != "logger=csv"] + ["logger.csv.every_rows=1"]
    epochs = "trainer.max_epochs=6"
    folder = tmp_path / "stopped"
    # In place of a callback that a run may go on without.
    stops = ("callbacks.progress._target_=support.stopping.Stops", "+callbacks.progress.after=7")
    command = [sys.executable, "-m", "w2v_abx", "train", *arguments, epochs, "resume=auto", f"hydra.run.dir={folder}"]
    process = subprocess.run(
        [*command, *stops],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    run("train", *arguments, epochs, "hydra.run.dir=whole")
    assert process.returncode == EXIT_STATUS, process.stderr
    assert "w2v-abx: stopped by SIGTERM after step" in process.stderr
    assert process.stderr.splitlines()[0] == f"w2v-abx train: in {folder}"  # before what takes seconds to load
    assert process.stderr.splitlines()[-1] == f"w2v-abx: {folder} goes on by the same line with resume=auto"
    for noise in ("Traceback", "WARNING", "Warning", "Error executing job"):
        assert noise not in process.stdout + process.stderr
    assert not (folder / "train.log").exists()  # there was nothing to log
    first = facts(folder)
    assert first["state"] == "preempted"
    rows = (folder / "metrics.csv").read_text().splitlines()

    measured.clear()
    out = run("train", *arguments, epochs, "resume=auto", f"hydra.run.dir={folder}")
    assert "begins with" in " ".join(out.split())
    assert measured == ["after training"]
    assert_same(folder, tmp_path / "whole")
    assert len((folder / "metrics.csv").read_text().splitlines()) > len(rows)
    second = facts(folder)
    assert (second["state"], second["id"]) == ("finished", first["id"])
    assert len(second["resumed"]) == 1
    assert [path.name.rpartition("-")[2] for path in (folder / "wandb").glob("offline-run-*")] == [first["id"]] * 2

    measured.clear()
    assert "is finished: there is nothing left to do" in run(
        "train", *arguments, "trainer.max_epochs=9", "resume=auto", f"hydra.run.dir={folder}"
    )
    assert measured == []
    assert facts(folder) == second


@pytest.fixture
def whole(run: Command, tmp_path: Path) -> Path:
    """A run that was left alone."""
    run("train", *SMALL, "trainer.max_epochs=2", "hydra.run.dir=whole")
    return tmp_path / "whole"


def breaks(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, when: Callable[..., bool]) -> None:
    """Have the process end where a function is called, as if it were killed."""
    function = getattr(place, name)

    def broken(*arguments: Any, **settings: Any) -> Any:
        if when(*arguments):
            raise RuntimeError("killed")
        return function(*arguments, **settings)

    monkeypatch.setattr(place, name, broken)


def test_no_phase_is_done_twice(
    run: Command, whole: Path, measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[tuple[Any, str, Callable[..., bool], list[str]]] = [
        (train, "evaluate", lambda name, *_: name == "MFCC", ["before training"]),
        (Checkpoints, "on_train_batch_start", lambda _, trainer, *rest: trainer.global_step == 7, ["MFCC"]),
        (train, "add_phase", lambda _, tag, *rest: tag == "training", []),
        (train, "summarize", lambda *_: True, ["after training"]),
        (train, "write_model_card", lambda *_: True, []),
    ]
    arguments = ("train", *SMALL, "trainer.max_epochs=2", "resume=auto", "hydra.run.dir=killed")
    for place, name, when, done in places:
        with monkeypatch.context() as patch:
            breaks(patch, place, name, when)
            with pytest.raises(RuntimeError, match="killed"):
                run(*arguments)
        assert measured == done, name
        measured.clear()
        assert not (tmp_path / "killed" / "encoder" / "README.md").exists()
    assert run(*arguments).count("resume=auto: training in") == 4  # of six; when it is done it begins nowhere
    assert measured == []
    assert_same(tmp_path / "killed", whole)


def test_the_last_run_that_is_not_finished(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "write_report", lambda summary: None)
    arguments = (
        "train",
        *SMALL,
        "baselines=[]",
        "trainer.max_epochs=2",
        "callbacks.checkpoints.every_steps=6",
        "resume=auto",
    )
    with monkeypatch.context() as patch:
        breaks(patch, Checkpoints, "on_train_batch_start", lambda _, trainer, *rest: trainer.global_step == 7)
        with pytest.raises(RuntimeError, match="killed"):
            run(*arguments)
    assert "begins anew" in capfd.readouterr().out
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    with pytest.raises(SystemExit):
        run(*arguments, "seed=1")
    assert f"outputs/train/{folder.name} is another: " in (said := capfd.readouterr().err)
    assert "seed was 0 and is 1" in said
    broken = folder / "checkpoints" / "step-00000006.ckpt"
    os.truncate(broken, broken.stat().st_size // 2)
    out = run(*arguments).replace("\n", "")
    assert f"outputs/train/{folder.name}" in out
    assert "checkpoints/step-00000005.ckpt" in out.partition("begins")[2]
    assert f"The checkpoint {broken} is not whole" in (folder / "train.log").read_text()
    assert facts(folder)["state"] == "finished"
    assert [path.name for path in broken.parent.glob("*.broken")] == ["step-00000006.ckpt.broken"]


def test_each_job_of_a_sweep_goes_on(
    run: Command, measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "write_report", lambda summary: None)
    sweep = ("--multirun", *SMALL, "baselines=[]", "hydra.sweep.dir=sweep", "seed=0,1", "resume=auto")
    with monkeypatch.context() as patch:
        breaks(patch, Checkpoints, "_save", lambda _, trainer: (tmp_path / "sweep" / "1" / "run.json").exists())
        with pytest.raises(RuntimeError, match="killed"):
            run("train", *sweep)
    assert [facts(tmp_path / "sweep" / job)["state"] for job in "01"] == ["finished", "stopped: killed"]
    measured.clear()
    out = run("train", *sweep)
    assert "sweep/0 is finished: there is nothing left to do" in out
    assert measured == ["after training"]
    assert [facts(tmp_path / "sweep" / job)["state"] for job in "01"] == ["finished", "finished"]


def test_what_the_jobs_of_a_sweep_share_is_measured_once(
    run: Command, measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "write_report", lambda summary: None)
    shares = [argument for argument in SMALL if argument != "measurements=null"]
    run("train", "--multirun", *shares, "hydra.sweep.dir=sweep", "optimizer.optimizer.lr=1e-4,1e-3", "seed=0,1")
    assert measured == ["before training", "MFCC", *["after training"] * 4]
    for name in ("before/cells.parquet", "mfcc/summary.json"):
        assert len({(tmp_path / "sweep" / job / "abx" / name).read_bytes() for job in "0123"}) == 1


def test_what_is_measured_once_leaves_a_simulated_device_as_hot(
    run: Command, measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Micro-batches, and with dropout the weights, follow its heat."""
    hot = ("thermal=simulated", "thermal.sensor.clip_seconds=4", "thermal.sensor.capacity=150")
    arguments = [argument for argument in SMALL if argument not in ("measurements=null", "thermal=off")]
    for folder in ("first", "second"):
        run("train", *arguments, *hot, "trainer.max_epochs=2", f"hydra.run.dir={folder}")
    assert measured == ["before training", "MFCC", "after training", "after training"]
    assert_same(tmp_path / "second", tmp_path / "first")
    first, second = (list(csv.DictReader((tmp_path / name / "thermal.csv").open())) for name in ("first", "second"))
    assert 0 < len(second) < len(first)
    assert second == first[-len(second) :]
    assert {"", "1"} <= {row["microbatch"] for row in second}
