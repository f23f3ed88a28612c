import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from w2v_abx.errors import InputError
from w2v_abx.runs import Run


def test_a_run_records_what_it_was_and_keeps_its_folder(tmp_path: Path) -> None:
    config = OmegaConf.create({"seed": 3, "paths": {"data": "d"}, "folder": "${paths.data}/x"})
    run = Run(tmp_path / "run", config)
    assert json.loads((run.folder / "run.json").read_text())["state"] == "running"
    assert OmegaConf.load(run.folder / "config.yaml").folder == "d/x"
    with run:
        run.record(verdict="no difference")
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["state"] == "finished"
    assert facts["seed"] == 3
    assert facts["verdict"] == "no difference"
    assert facts["wall_seconds"] >= 0
    assert facts["packages"]["torch"]
    with pytest.raises(InputError, match="already holds a run"):
        Run(tmp_path / "run", config)


def test_a_run_that_stops_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too hot"), Run(tmp_path, OmegaConf.create({"seed": 0})):
        raise InputError("too hot")
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "stopped: too hot"
