"""Two ranks take the steps of one process, whatever each of them meets."""

from pathlib import Path
from typing import Any

import elastic_ranks
import pytest
import torch
from elastic import STEPS, Objective, make_batch
from elastic_objectives import prepare, run
from elastic_ranks import Uneven, fused, result, spoilt
from ranks import run_ranks

from w2v_abx.data.batch import Batch


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    prepare(folder)
    run_ranks(elastic_ranks.everything, 2, folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def assert_same(found: dict[str, Any], alone: dict[str, Any]) -> None:
    torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-5, atol=0)
    assert found["logged"] == pytest.approx(alone["logged"], rel=1e-5)
    torch.testing.assert_close(found["weights"], alone["weights"], rtol=1e-5, atol=1e-7)


def batches() -> list[Batch]:
    return [make_batch(index) for index in range(STEPS)]


def test_five_micro_batches_on_one_rank_and_two_on_the_other(found: list[dict[str, Any]], tmp_path: Path) -> None:
    alone = result(Objective(gradient_clip_norm=0.1), batches(), tmp_path)
    assert [len(rank["plain"]["seen"]) for rank in found] == [5 * STEPS, 2 * STEPS]
    for rank in found:
        assert_same(rank["plain"], alone)
    torch.testing.assert_close(found[0]["plain"]["weights"], found[1]["plain"]["weights"], rtol=0, atol=0)


def test_layers_and_losses_that_one_rank_lacks(found: list[dict[str, Any]], tmp_path: Path) -> None:
    alone = result(Uneven(), batches(), tmp_path)
    assert "train/first" in alone["logged"]
    for rank in found:
        assert_same(rank["uneven"], alone)
        torch.testing.assert_close(rank["uneven"]["weights"][-2:], [p.detach() for p in Uneven().none.parameters()])


def test_one_rank_runs_out_of_memory_and_both_go_on(found: list[dict[str, Any]], tmp_path: Path) -> None:
    alone = result(Objective(gradient_clip_norm=0.1), batches(), tmp_path)
    for rank in found:
        assert_same(rank["memory"], alone)
        assert rank["memory"]["microbatches"] == found[0]["memory"]["microbatches"]
        assert rank["memory"]["microbatches"]["memory"]["clips"]["size"] == 1
    # Rank 0 ran its first step whole, and from then on what rank 1 has memory for.
    assert found[0]["memory"]["seen"] == [5, *[1] * 5 * (STEPS - 1)]
    assert found[1]["memory"]["seen"] == [1] * 2 * STEPS


def test_auto_finds_what_the_smallest_memory_holds(found: list[dict[str, Any]], tmp_path: Path) -> None:
    alone = result(Objective(gradient_clip_norm=0.1), batches(), tmp_path)
    longest = int(make_batch(0).lengths.max())
    for rank in found:
        assert_same(rank["auto"], alone)
        assert rank["auto"]["microbatches"]["found"] == 2 * longest
        assert rank["auto"]["microbatches"]["memory"]["samples"]["size"] is None  # no step ran out


def test_one_rank_fails_and_none_waits(found: list[dict[str, Any]]) -> None:
    for rank in found:
        assert "single clip" in rank["no memory"]["error"]
    assert found[0]["failure"]["error"] == "InputError: Rank 1 of 2 failed: a bad clip"


@pytest.mark.parametrize("run", ["spoilt", "spoilt, fused"])
def test_a_loss_that_is_not_finite_stops_all_ranks(run: str, found: list[dict[str, Any]], tmp_path: Path) -> None:
    options = {"optimizer": fused} if "fused" in run else {}
    before = result(Objective(**options), spoilt()[:1], tmp_path)
    for rank in found:
        assert rank[run]["keys"] == ["1-5"]
        assert "step 1," in rank[run]["error"]
        torch.testing.assert_close(rank[run]["weights"], before["weights"], rtol=1e-5, atol=1e-7)


def test_what_ranks_sum_and_agree_on(found: list[dict[str, Any]]) -> None:
    mine = torch.arange(6.0).view(2, 3)
    for number, rank in enumerate(found):
        made = rank["collectives"]
        assert made["largest"] == [1, 0, 5]
        assert made["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert made["number"] == 4.0
        assert made["named"] == {"clips": 5.0, "frames": 1.0}
        torch.testing.assert_close(made["tensor"], 3 * mine)
        large = 3 * torch.ones(600, 600)
        expected = [3 * mine, 3 * mine[0].double(), large, 3 * mine[1], 2 * large, 3 * mine]
        torch.testing.assert_close(made["gradients"], expected)
        assert made["message"] == ("no clips" if number == 0 else "Rank 0 of 2 failed: no clips")


@pytest.mark.parametrize("name", ["supervised", "pretrain", "masked_prediction", "supervised, fused"])
def test_objectives_in_micro_batches_on_two_ranks(name: str, found: list[dict[str, Any]], tmp_path: Path) -> None:
    fused = name.endswith("fused")
    alone = run(name.removesuffix(", fused"), prepare(tmp_path), adam=fused)
    for rank in found:
        torch.testing.assert_close(rank[name]["losses"], alone["losses"], rtol=1e-5, atol=0)
        if not fused:  # Adam makes whole steps of the rounding of vanishing gradients
            torch.testing.assert_close(rank[name]["weights"], alone["weights"], rtol=1e-4, atol=1e-6)
