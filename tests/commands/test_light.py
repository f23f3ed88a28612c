"""What shows help or a configuration, and what compares, loads no framework: it takes a second, not ten."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from w2v_abx.commands import COMMANDS
from w2v_abx.items.items import Items

HEAVY = ("lightning", "pytorch_lightning", "torch", "torchaudio", "torchmetrics", "transformers", "wandb")

# Run command lines one after another in one process; then print which of the modules named first are loaded.
SCRIPT = """
import json, sys
from w2v_abx.__main__ import main

heavy, *lines = json.loads(sys.argv[1])
for line in lines:
    sys.argv = ["w2v-abx", *line]
    try:
        main()
    except SystemExit as end:
        assert not end.code, line
print("loaded:", [name for name in heavy if name in sys.modules])
"""


def loaded(lines: Sequence[Sequence[str]], folder: Path) -> str:
    """The modules of `HEAVY` that a process has loaded after these command lines, as it prints them."""
    command = [sys.executable, "-c", SCRIPT, json.dumps([HEAVY, *lines])]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()[-1]


@pytest.fixture
def features(spoken: tuple[Path, Path], tmp_path: Path) -> list[str]:
    """Overrides of `w2v-abx abx` that score stored features."""
    (tmp_path / "features").mkdir()
    for name in Items.read(spoken[0]).frame["#file"].unique():
        frames = np.random.default_rng(2).standard_normal((25, 4)).astype(np.float32)
        np.save(tmp_path / "features" / f"{name}.npy", frames)
    return ["features=features", f"abx.items={spoken[0]}", "abx.frequency=50", "trainer.accelerator=cpu"]


def test_what_shows_and_does_not_work_loads_no_framework(tmp_path: Path) -> None:
    shows = (["--help"], ["--cfg", "job"])  # what is Hydra's own is the same for all commands
    others = (["--hydra-help"], ["--info"], ["-sc", "install=bash"])
    lines = [
        ["--help"],
        ["--version"],
        ["list"],
        ["list", "model"],
        *([command, *show] for command in COMMANDS for show in shows),
    ]
    lines += [["train", *show] for show in others]
    assert loaded(lines, tmp_path) == "loaded: []"


@pytest.mark.parametrize("launcher", [["joblib", "n_jobs=2"], ["submitit_local", "timeout_min=10"]])
def test_the_process_that_starts_a_sweep_loads_no_framework(
    launcher: list[str], features: list[str], tmp_path: Path
) -> None:
    launched = [f"hydra/launcher={launcher[0]}", f"hydra.launcher.{launcher[1]}"]
    assert loaded([["abx", "-m", *features, *launched, "seed=0,1", "hydra.sweep.dir=sweep"]], tmp_path) == "loaded: []"
    assert {path.parent.name for path in (tmp_path / "sweep").glob("*/run.json")} == {"0", "1"}


def test_comparing_two_runs_loads_no_framework(run: Callable[..., str], features: list[str], tmp_path: Path) -> None:
    for name in ("first", "second"):
        run("abx", *features, f"hydra.run.dir={name}")
    assert loaded([["compare", "before=first", "after=second", "hydra.run.dir=both"]], tmp_path) == "loaded: []"
    assert (tmp_path / "both" / "report.html").is_file()
