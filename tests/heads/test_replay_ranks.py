"""Replay where the ranks' clips are of different kinds."""

from pathlib import Path

import torch
from ranks import run_ranks
from replay_ranks import weights_in_ranks
from tones import prepared


def test_ranks_share_the_losses_of_one_process(tmp_path: Path) -> None:
    """One rank has no clip to replay, the other one with labels; the step is that of all of them together."""
    prepared(tmp_path, {"train": 8, "valid": 4}, "sounds")
    prepared(tmp_path, {"train": 8}, "speech")
    weights_in_ranks(tmp_path)
    run_ranks(weights_in_ranks, 2, tmp_path)
    alone = torch.load(tmp_path / "ranks1_0.pt", weights_only=True)
    assert {"train/replay_loss", "train/labels_loss"} <= alone["logged"].keys()
    for rank in range(2):
        found = torch.load(tmp_path / f"ranks2_{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["logged"], alone["logged"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["weights"], alone["weights"], rtol=1e-4, atol=1e-6)
