"""Ranks save, stop and go on together."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import saving_ranks
import torch
from ranks import run_ranks

from w2v_abx.training.saving.files import checkpoint_of, load


@pytest.fixture(scope="module")
def folder(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    os.environ["SHARDS"] = str(shards)
    run_ranks(saving_ranks.scenes, 2, folder)
    return folder


def told(folder: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"told-{rank}.json").read_text())
    return found


def weights(folder: Path, name: str, rank: int) -> list[torch.Tensor]:
    found: list[torch.Tensor] = torch.load(folder / f"{name}-{rank}.pt", weights_only=True)
    return found


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("step", [2, 6, 8])
def test_each_rank_goes_on_where_it_was(step: int, rank: int, folder: Path) -> None:
    whole = told(folder, rank)["whole"]
    first = next(i for i, event in enumerate(whole) if event[:2] == ["train", step])
    assert told(folder, rank)[f"from {step}"] == whole[first:]
    assert all(map(torch.equal, weights(folder, f"from {step}", rank), weights(folder, "whole", rank)))
    assert whole[0] != told(folder, 1 - rank)["whole"][0]  # other clips, other numbers drawn


def test_a_signal_to_one_of_them_stops_all(folder: Path) -> None:
    assert [told(folder, rank)["exit"] for rank in range(2)] == [[75, "SIGUSR1"], [0, "SIGUSR1"]]
    path = checkpoint_of(folder / "stopped")
    assert path is not None
    saved = load(path)
    assert saved["global_step"] in (4, 5)
    assert len(saved["w2v_abx"]["random"]) == 2
    for rank in range(2):
        steps = [event[1] for event in told(folder, rank)["stopped"] if event[0] == "train"]
        assert steps == [*range(saved["global_step"])]


def test_a_disk_that_is_full_stops_all(folder: Path) -> None:
    said = [told(folder, rank)["full"] for rank in range(2)]
    assert "was not written (No space left on device)" in said[0]
    assert said[1] == f"Rank 0 of 2 failed: {said[0]}"
    assert not list((folder / "full" / "checkpoints").glob("*"))
