"""ABX in two processes, as a user starts it: one folder, one result, no process left behind."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from noises import noises


def test_two_processes_give_what_one_does(run: Callable[..., str], tmp_path: Path) -> None:
    speech = noises(tmp_path)
    speech.items.write(tmp_path / "x.item")
    asked = [
        "abx", "abx.items=x.item", "abx.root=audio", "abx.batch_seconds=3", "abx.layers=[1]", "trainer.accelerator=cpu"
    ]  # fmt: skip
    run(*asked, "hydra.run.dir=one")
    command = [
        sys.executable,
        "-m",
        "w2v_abx",
        *asked,
        "hydra.run.dir=two",
        "trainer.devices=2",
        "trainer.strategy=ddp",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert {"scores", "seconds", "folder"} < set(json.loads(done.stdout.splitlines()[-1]))
    assert done.stdout.count("ABX error across speakers (%)") == 1
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    one, two = (pl.read_parquet(tmp_path / name / "abx" / "scores" / "cells.parquet") for name in ("one", "two"))
    assert one.columns == two.columns
    # Lightning gives each process its share of the cores, on which the last bits of features depend.
    assert two["score"].to_list() == pytest.approx(one["score"].to_list(), abs=1e-3)
    assert two["size"].equals(one["size"])
