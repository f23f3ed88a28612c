"""metrics.csv has each row once, however often a run was killed."""

import csv
from pathlib import Path

import pytest
import torch

from w2v_abx.errors import InputError
from w2v_abx.training.saving import MetricsCsv


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_and_columns(tmp_path: Path) -> None:
    logger = MetricsCsv(tmp_path, every_rows=2)
    logger.log_metrics({"loss": torch.tensor(0.5)}, 0)
    assert not (tmp_path / "metrics.csv").exists()
    logger.log_metrics({"loss": 0.25}, 1)
    assert (tmp_path / "metrics.csv").read_text().split() == ["loss,step", "0.5,0", "0.25,1"]
    logger.log_metrics({"accuracy": 1}, 1)
    logger.finalize("success")
    assert (tmp_path / "metrics.csv").read_text().split() == ["accuracy,loss,step", ",0.5,0", ",0.25,1", "1,,1"]
    logger.finalize("success")
    assert len(rows(tmp_path)) == 3


def test_going_on_from_a_checkpoint(tmp_path: Path) -> None:
    first = MetricsCsv(tmp_path, every_rows=1)
    for step in range(3):
        first.log_metrics({"loss": step}, step)
    state = first.state_dict()
    first.log_metrics({"loss": 3, "accuracy": 0.1}, 3)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write('0.2,"ha')  # what a process was writing when it was killed
    again = MetricsCsv(tmp_path)
    again.load_state_dict(state)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2"]
    again.log_metrics({"loss": 3, "accuracy": 0.1}, 3)
    again.finalize("success")
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2", "3"]
    assert rows(tmp_path)[-1] == {"accuracy": "0.1", "loss": "3", "step": "3"}


def test_beginning_anew(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("loss,step\n1,1\n")
    logger = MetricsCsv(tmp_path)
    logger.load_state_dict(logger.state_dict())
    logger.log_metrics({"loss": 5}, 0)
    logger.finalize("success")
    assert rows(tmp_path) == [{"loss": "5", "step": "0"}]
    missing = MetricsCsv(tmp_path / "elsewhere")
    missing.load_state_dict({"rows": 7})
    missing.log_metrics({"loss": 5}, 7)
    missing.finalize("success")
    assert rows(tmp_path / "elsewhere") == [{"loss": "5", "step": "7"}]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    logger = MetricsCsv(tmp_path / "file")
    logger.log_metrics({"loss": 5}, 0)
    with pytest.raises(InputError, match=r"file/metrics.csv cannot be written"):
        logger.save()
    with pytest.raises(InputError, match="every_rows=0"):
        MetricsCsv(tmp_path, every_rows=0)
