"""Training in several processes, as a user or a cluster starts it: real processes, and all phases."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from small import ARCHITECTURE

from w2v_abx.models.encoder import Encoder

Command = Callable[..., str]

ONE = ("trainer.accelerator=cpu", "trainer.max_epochs=2")
TWO = (*ONE, "trainer.devices=2")


@pytest.fixture
def training(pond: Path, spoken: tuple[Path, Path], tmp_path: Path) -> tuple[str, ...]:
    """Overrides of a training of two steps, each of all four clips."""
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    return (
        "--config-dir", str(pond), "corpus=pond", "abx=item_file", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}",
        "abx.layers=[1]", "model=local", "model.source=model", "data.batch_size=4",
        "thermal=off", "baselines=[]",
    )  # fmt: skip


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "w2v_abx", "train", *arguments],
        cwd=folder, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def read(folder: Path, name: str = "run.json") -> Any:
    return json.loads((folder / name).read_text())


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "wandb" not in path.parts}


def test_a_sweep_of_two_jobs_in_two_processes_each(run: Command, training: tuple[str, ...], tmp_path: Path) -> None:
    sweep = start(tmp_path, "--multirun", *training, "trainer=ddp", *TWO, "hydra.sweep.dir=sweep", "seed=0,1")
    out, errors = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, errors
    run("train", *training, *ONE, "hydra.run.dir=alone")
    alone, jobs = tmp_path / "alone", [tmp_path / "sweep" / name for name in ("0", "1")]
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {"0", "1", "multirun.yaml"}
    for seed, job in enumerate(jobs):
        assert files(job) == files(alone)
        assert read(job)["state"] == "finished"
        assert read(job)["seed"] == seed
        assert read(job)["command"].startswith("__main__.py train --multirun")
        assert read(job)["verdict"] in " ".join(out.split())
        assert read(job, "head.json")["valid"]["labels"]["metrics"]["clips"] == 4  # two of each process
    ids = [[path.name.rpartition("-")[2] for path in (job / "wandb").glob("offline-run-*")] for job in jobs]
    assert [len(found) for found in ids] == [1, 1]
    assert ids[0] != ids[1]

    assert_trained_alike(jobs[0], alone)
    first, second = (read(place, "head.json")["valid"]["labels"]["metrics"]["map"] for place in (jobs[0], alone))
    assert first == pytest.approx(second)
    for tag in ("before", "after"):
        errors_of = [
            [row["error"] for row in read(folder / "abx" / tag, "summary.json")["scores"]]
            for folder in (alone, jobs[0])
        ]
        assert errors_of[1] == pytest.approx(errors_of[0], abs=1e-6)


def test_srun_starts_processes_that_train_together(run: Command, training: tuple[str, ...], tmp_path: Path) -> None:
    training = (*training, "callbacks=[monitor]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    step = {
        "SLURM_JOB_ID": "71", "SLURM_JOB_NAME": "study", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    tasks = [
        start(tmp_path, *training, "trainer=ddp", *TWO, SLURM_PROCID=n, SLURM_LOCALID=n, **step) for n in ("0", "1")
    ]
    outputs = [task.communicate(timeout=600) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    assert outputs[1][0] == ""
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    run("train", *training, *ONE, "hydra.run.dir=alone")
    assert files(folder) == files(tmp_path / "alone")
    assert_trained_alike(folder, tmp_path / "alone")
    found = [pl.read_csv(place / "monitor.csv") for place in (folder, tmp_path / "alone")]
    assert found[0].select("step", "layer", "condition").equals(found[1].select("step", "layer", "condition"))
    assert found[0]["delta_std"].to_list() == pytest.approx(found[1]["delta_std"].to_list(), rel=1e-4)


def assert_trained_alike(folder: Path, alone: Path) -> None:
    """The same weights, but for rounding: a step of Adam divides a gradient's rounding by a gradient as small."""
    weights = [load_file(place / "encoder" / "model.safetensors") for place in (folder, alone)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[1].items():
        torch.testing.assert_close(weights[0][name], value, rtol=1e-4, atol=3e-6)
    begun = load_file(alone.parent / "model" / "model.safetensors")
    assert any(not torch.allclose(value, begun[name], atol=1e-4) for name, value in weights[1].items())
