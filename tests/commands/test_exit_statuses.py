"""The exit statuses that the README lists, as a script meets them. Status 75 of a run that stops: `test_resume`."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small import ARCHITECTURE

from w2v_abx.errors import NotWritten
from w2v_abx.models.encoder import Encoder
from w2v_abx.system.atomic import write_json, write_parquet
from w2v_abx.system.spreadsheets import write_csv

TRAINING = (
    "model=local", "model.source=model", "data.batch_size=4", "trainer.max_epochs=1", "trainer.accelerator=cpu",
    "logger=csv", "baselines=[]",
)  # fmt: skip

TABLE = pl.DataFrame({"x": np.random.default_rng(0).random(10_000)})
TOO_HOT = ("thermal.governor.limit=50", "thermal.governor.patience=1")


@pytest.mark.parametrize(
    ("overrides", "status", "said"),
    [
        (("data.batch_size=none", "thermal=off"), 2, "data.batch_size"),
        (("data.no_such=1", "thermal=off"), 2, "data.no_such"),
        (("optimizer.optimizer.lr=-1", "thermal=off"), 2, "optimizer.optimizer: Invalid learning rate: -1"),
        (("optimizer.optimizer.lr=1e30", "trainer.max_epochs=9", "thermal=off"), 65, "loss is not finite"),
        (("thermal=simulated", "thermal.sensor.cooling=1", *TOO_HOT), 76, "to protect the device"),
    ],
)
def test_training(
    overrides: tuple[str, ...],
    status: int,
    said: str,
    run: Callable[..., str],
    pond: Path,
    spoken: tuple[Path, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    speech = ("abx=item_file", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}")
    with pytest.raises(SystemExit) as stopped:
        run("train", "--config-dir", str(pond), "corpus=pond", *speech, *TRAINING, *overrides)
    last = capfd.readouterr().err.splitlines()[-1]
    assert stopped.value.code == status, last
    assert said in last


def test_no_such_command(run: Callable[..., str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("trian")
    assert stopped.value.code == 2


def test_an_interrupt_while_modules_are_loaded(tmp_path: Path) -> None:
    """Of the program that is installed, too: it ends of it, with nothing to say."""
    (tmp_path / "hydra.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    command = [Path(sys.executable).with_name("w2v-abx"), "prepare"]
    process = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (process.returncode, process.stderr) == (-signal.SIGINT, "")


def test_a_disk_that_is_full(pond: Path, tmp_path: Path) -> None:
    """By a limit on the size of a file, which a shard reaches."""
    command = [sys.executable, "-m", "w2v_abx", "prepare", "--config-dir", str(pond), "corpus=pond"]
    limited = ["bash", "-c", 'ulimit -f 32; exec "$@"', "-", *command]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # or the limit would spoil it
    process = subprocess.run(
        limited, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert process.returncode == 74, process.stderr
    assert "cannot be written" in process.stderr


@pytest.mark.parametrize(
    "write",
    [
        Encoder.random(ARCHITECTURE).save,
        lambda path: write_parquet(path, TABLE),
        lambda path: write_csv(path, TABLE),
        lambda path: write_json(path, TABLE["x"].to_list()),
    ],
)
def test_whatever_is_written_is_named_when_the_disk_is_full(write: Callable[[Path], None], tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises((OSError, NotWritten)) as failed:
            write(tmp_path / "result")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{tmp_path / 'result'}" in str(failed.value)
    assert "File too large" in str(failed.value)
    assert not list(tmp_path.iterdir())
