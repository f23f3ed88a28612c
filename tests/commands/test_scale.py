"""Training in several processes, as a user or a cluster starts it: real processes, and all phases."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small import ARCHITECTURE

from w2v_abx.encoder import Encoder

Command = Callable[..., str]


@pytest.fixture
def training(pond: Path, spoken: tuple[Path, Path], tmp_path: Path) -> tuple[str, ...]:
    """Overrides of a training of two steps, each of all four clips."""
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    return (
        "--config-dir", str(pond), "corpus=pond", "abx=item_file", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}",
        "abx.layers=[1]", "model=local", "model.source=model", "data.batch_size=4", "trainer.max_epochs=2",
        "trainer.accelerator=cpu", "thermal=off", "baselines=[]",
    )  # fmt: skip


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "w2v_abx", "train", *arguments],
        cwd=folder, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def told(folder: Path, name: str = "run.json") -> Any:
    return json.loads((folder / name).read_text())


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "wandb" not in path.parts}


def test_a_sweep_of_two_jobs_in_two_processes_each(run: Command, training: tuple[str, ...], tmp_path: Path) -> None:
    sweep = start(tmp_path, "--multirun", *training, "trainer.devices=2", "hydra.sweep.dir=sweep", "seed=0,1")
    out, errors = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, errors
    run("train", *training, "hydra.run.dir=alone")
    alone, jobs = tmp_path / "alone", [tmp_path / "sweep" / name for name in ("0", "1")]
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {"0", "1", "multirun.yaml"}
    for seed, job in enumerate(jobs):
        assert files(job) == files(alone)
        assert told(job)["state"] == "finished"
        assert told(job)["seed"] == seed
        assert told(job)["command"].startswith("__main__.py train --multirun")
        assert told(job)["verdict"] in " ".join(out.split())
        assert told(job, "head.json")["labels"]["clips"] == 4  # two of each process
    ids = [[path.name.rpartition("-")[2] for path in (job / "wandb").glob("offline-run-*")] for job in jobs]
    assert [len(found) for found in ids] == [1, 1]
    assert ids[0] != ids[1]

    # What was trained is what one process trains, to rounding.
    trained = [load_file(folder / "encoder" / "model.safetensors") for folder in (alone, *jobs)]
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-4, atol=1e-6)
    start_weights = load_file(tmp_path / "model" / "model.safetensors")
    assert any(not torch.allclose(value, start_weights[name], atol=1e-5) for name, value in trained[0].items())
    assert told(jobs[0], "head.json")["labels"]["map"] == pytest.approx(told(alone, "head.json")["labels"]["map"])
    for tag in ("before", "after"):
        errors_of = [
            [row["error"] for row in told(folder / "abx" / tag, "summary.json")["scores"]]
            for folder in (alone, jobs[0])
        ]
        assert errors_of[1] == pytest.approx(errors_of[0], abs=1e-6)


def test_srun_starts_the_processes(training: tuple[str, ...], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    node = {
        "SLURM_JOB_ID": "71", "SLURM_JOB_NAME": "study", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    tasks = [
        start(tmp_path, *training, "trainer=slurm", SLURM_PROCID=rank, SLURM_LOCALID=rank, **node)
        for rank in ("0", "1")
    ]
    outputs = [task.communicate(timeout=600) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    assert outputs[1][0] == ""
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    assert told(folder)["state"] == "finished"
    assert told(folder)["steps"] == 2
