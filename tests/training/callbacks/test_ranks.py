from pathlib import Path

import torch
from ranks import run_ranks
from tuned import assert_close, assert_equal
from tuned_ranks import CASES, result, tuned_in_ranks


def test_several_processes_make_the_run_of_one(tmp_path: Path) -> None:
    run_ranks(tuned_in_ranks, 2, tmp_path)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    for name, case in CASES.items():
        assert_equal(first[name], second[name])
        assert_close(first[name], result(case, tmp_path))
