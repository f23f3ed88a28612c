"""Several processes score what one does, to the last bit, and fail together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import everything, one_fails
from ranks import run_ranks

from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.errors import InputError


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process finds."""
    folder, threads = tmp_path_factory.mktemp("one"), torch.get_num_threads()
    torch.set_num_threads(1)  # features depend on it, in their last bits
    try:
        everything(folder)
    finally:
        torch.set_num_threads(threads)
    return torch.load(folder / "found0.pt", weights_only=False)


@pytest.mark.parametrize("size", [3])
def test_ranks_find_what_one_process_does(one: dict[str, Any], size: int, tmp_path: Path) -> None:
    run_ranks(everything, size, tmp_path)
    for rank in range(size):
        found = torch.load(tmp_path / f"found{rank}.pt", weights_only=False)
        assert found["encoder"] == one["encoder"]
        assert found["deltas"] == one["deltas"]
        assert found["logged"] == one["logged"]
        assert found["cells"] == one["cells"]
        assert found["monitor"] == (one["monitor"] if rank == 0 else None)
        assert found["features"].keys() == one["features"].keys()
        assert all(torch.equal(value, one["features"][name]) for name, value in found["features"].items())
        assert found["ranks"] == [rank, size]
        for total, kind in zip(found["sums"], ("int64", "float32", "float64"), strict=True):
            assert total.dtype == kind
            assert np.array_equal(total, np.arange(4) * int("1" * size))
        assert found["empty"] == (0, 3)
        unread, unseen = found["errors"]
        assert "broken" in unread
        assert "no features for the file 'bob3'" in unseen
    said = [torch.load(tmp_path / f"found{rank}.pt", weights_only=False)["errors"][0] for rank in range(size)]
    assert sum(text.startswith("Rank ") for text in said) == size - 1  # only one of them has tried to read the file


def test_a_rank_that_ends_takes_the_others_with_it(tmp_path: Path) -> None:
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="rank 1 is gone|onnection"):
        run_ranks(one_fails, 2, tmp_path)
    assert not (tmp_path / "went on").exists()


def test_without_processes_there_are_no_ranks() -> None:
    with pytest.raises(InputError, match="torch.distributed is not initialised"):
        DistributedRanks()
