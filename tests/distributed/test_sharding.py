"""A model that is divided among two ranks learns what it learns in one, and is saved and read as there."""

import shutil
from pathlib import Path

import pytest
import torch
from ranks import run_ranks
from sharded_ranks import everything
from small import ARCHITECTURE
from torch import nn

from w2v_abx.distributed.sharding import check_shardable
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder


def test_two_ranks_are_as_one(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "alone").symlink_to(tmp_path / "own")
    everything(tmp_path)
    (tmp_path / "alone").unlink()
    shutil.move(tmp_path / "own", tmp_path / "alone")  # the checkpoints of one process
    run_ranks(everything, 2, tmp_path)
    one, two = (torch.load(tmp_path / f"found{size}.pt", weights_only=True) for size in (1, 2))
    assert (one["divided"], two["divided"] > 20) == (0, True)
    for name in ("trained", "still trained", "from own", "from alone", "head alone"):
        for weight, value in one[name].items():
            torch.testing.assert_close(two[name][weight], value, rtol=1e-4, atol=1e-6)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    saved = [torch.load(tmp_path / name / "step=1.ckpt", weights_only=True) for name in ("alone", "own")]
    shapes = [
        [
            {name: value.shape for name, value in states.items()}
            for states in found["optimizer_states"][0]["state"].values()
        ]
        for found in saved
    ]
    assert shapes[0] == shapes[1]


def test_what_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="this objective has none; take trainer=ddp"):
        check_shardable(nn.Linear(1, 1))
    with pytest.raises(InputError, match="set model.layer_drop=0"):
        check_shardable(Encoder.random({**ARCHITECTURE, "layerdrop": 0.1}))
