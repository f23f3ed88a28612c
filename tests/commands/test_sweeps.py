"""Named sweeps, and the launchers that run several of their jobs at once."""

import json
import os
import stat
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.types import RunMode
from omegaconf import OmegaConf
from submitit.core.utils import FailedJobError

from w2v_abx.abx import Items
from w2v_abx.commands import train  # noqa: F401 what the configuration asks to be resolved
from w2v_abx.config import CONF

Command = Callable[..., str]

GIVEN = {  # what a named sweep does not know by itself
    "forgetting": ["data.mix.speech.folder=speech"],
    "actors": ["experiment=emotion_ravdess"],
    "encoders": ["experiment=phoneme_probe_timit"],
    "multitask": ["experiment=multitask_emotion"],
    "finnish": ["experiment=finnish_espeak"],
}


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "sweep").glob("*.yaml")))
def test_the_jobs_of_a_named_sweep_can_be_configured(name: str) -> None:
    given = [f"sweep={name}", *GIVEN.get(name, [])]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = compose("train", given, return_hydra_config=True).hydra
        assert hydra.mode == RunMode.MULTIRUN
        params = {key: str(values).split(",") for key, values in hydra.sweeper.params.items()}
        for values in product(*params.values()):
            job = [f"{key}={value}" for key, value in zip(params, values, strict=True)]
            config = compose("train", [*given, *job], return_hydra_config=True)
            for key, value in zip(params, values, strict=True):
                chosen = config.hydra.runtime.choices.get(key, OmegaConf.select(config, key))  # of a group, or a value
                assert str(chosen) in (value, str(_number(value)))


def test_sweeps_on_slurm_need_an_extra(
    run: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("submitit_slurm.yaml", "submitit_local.yaml"):
        monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], name)  # which the plugin has put there
    with pytest.raises(SystemExit):
        run("compare", "hydra/launcher=slurm", "--cfg", "job")
    assert capfd.readouterr().err == (
        "w2v-abx: the package hydra-submitit-launcher is missing: pip install 'w2v-abx[slurm]'\n"
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@pytest.fixture
def features(spoken: tuple[Path, Path], tmp_path: Path) -> tuple[str, ...]:
    """Overrides of a sweep of `w2v-abx abx` that scores stored features."""
    (tmp_path / "features").mkdir()
    for name in Items.read(spoken[0]).frame["#file"].unique():
        frames = np.random.default_rng(2).standard_normal((25, 4)).astype(np.float32)
        np.save(tmp_path / "features" / f"{name}.npy", frames)
    return (
        "abx", "--multirun", "features=features", f"abx.items={spoken[0]}", "abx.frequency=50",
        "trainer.accelerator=cpu", "hydra.sweep.dir=sweep",
    )  # fmt: skip


@pytest.mark.parametrize(("jobs", "launcher"), [(1, ("submitit_local", "timeout_min=10")), (2, ("joblib", "n_jobs=2"))])
def test_a_launcher_runs_every_job_in_its_folder(
    jobs: int, launcher: tuple[str, str], run: Command, features: tuple[str, ...], tmp_path: Path
) -> None:
    seeds = ",".join(map(str, range(jobs)))
    run(*features, f"seed={seeds}", f"hydra/launcher={launcher[0]}", f"hydra.launcher.{launcher[1]}")
    for job in (tmp_path / "sweep" / str(number) for number in range(jobs)):
        assert (job / "abx" / "scores" / "cells.parquet").is_file()
        recorded = json.loads((job / "run.json").read_text())
        assert recorded["state"] == "finished"
        assert recorded["command"].startswith("w2v-abx abx --multirun features.folder=features")


def test_a_trainer_under_srun_has_what_srun_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    monkeypatch.setenv("SLURM_NNODES", "2")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        trainer = compose("train", ["trainer=slurm"]).trainer
    assert (trainer.devices, trainer.num_nodes, trainer.strategy) == (4, 2, "ddp")


@pytest.mark.parametrize(
    ("launcher", "asked"),
    [
        ("slurm", {"nodes=1", "gpus-per-node=1", "ntasks-per-node=1", "partition=gpu", "array=0-1%2"}),
        ("slurm_nodes", {"nodes=2", "gpus-per-node=4", "ntasks-per-node=4"}),
    ],
)
def test_slurm_is_asked_for_what_jobs_need(
    launcher: str,
    asked: set[str],
    run: Command,
    features: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("srun", "sbatch"):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/asked.sh\nexit 1\n')
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(FailedJobError):
        run(*features, "seed=0,1", f"hydra/launcher={launcher}", "hydra.launcher.partition=gpu")
    lines = (tmp_path / "asked.sh").read_text().splitlines()
    options = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    # Told by a signal to save, and in time; queued again.
    assert asked | {"signal=USR2@300", "time=1440", "requeue", "cpus-per-task=8", "mem=64GB"} <= options
