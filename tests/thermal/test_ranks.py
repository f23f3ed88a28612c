"""Two ranks, each with a device of its own, are held cool together."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import thermal_ranks
import torch
from elastic import Objective, fit, make_batch
from ranks import run_ranks
from thermal_ranks import CLIPS, STEPS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(thermal_ranks.scenes, 2, folder)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"results-{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def test_they_rest_and_shrink_alike(results: list[dict[str, Any]]) -> None:
    hot, cool = (found["hot"] for found in results)
    assert hot["seen"] == cool["seen"]
    assert {CLIPS // 2, 1} <= {*hot["seen"]}
    assert hot["peak"] <= 86
    assert 40 < cool["peak"] < 80
    work = sum(hot["seen"]) * 0.8 + len(hot["seen"]) * 0.4
    assert hot["clock"] > 1.2 * work  # the rest is rest
    assert abs(hot["clock"] - cool["clock"]) < 10


def test_the_weights_are_those_of_one_process_that_is_left_alone(folder: Path) -> None:
    module = Objective()
    fit(module, [make_batch(index, CLIPS) for index in range(STEPS)])
    for rank in range(2):
        weights = torch.load(folder / f"weights-{rank}.pt", weights_only=True)
        torch.testing.assert_close(weights, [weight.detach() for weight in module.parameters()], rtol=1e-4, atol=1e-6)


def test_the_hottest_of_all_is_recorded(folder: Path) -> None:
    table = pl.read_csv(folder / "hot" / "thermal.csv").drop_nulls("temperature")
    assert table["device"].tail(20).unique().to_list() == ["rank 0"]
    assert 80 < float(table["temperature"][-1]) <= 86


def test_an_evaluation_is_governed_though_none_waits_for_another(results: list[dict[str, Any]], folder: Path) -> None:
    """Rank 0 has 60 batches of 5.2 s, and rests between them; they synchronise at its end."""
    hot, cool = (found["evaluated"] for found in results)
    assert 75 < hot["peak"] <= 86
    assert hot["clock"] > 1.2 * 60 * 5.2
    assert cool["clock"] == pytest.approx(hot["clock"], abs=1)
    table = pl.read_csv(folder / "evaluated" / "thermal.csv")
    assert table["reason"].str.starts_with("rank 0 by itself: rank 0: ").any()


def test_where_one_cannot_be_cooled_all_stop_with_one_checkpoint(results: list[dict[str, Any]], folder: Path) -> None:
    troubles = [found["stop"]["trouble"] for found in results]
    assert troubles[0] == troubles[1]
    assert "rank 1: " in troubles[0][0]
    assert "resting does not help" in troubles[0][0]
    assert torch.load(troubles[0][1], weights_only=True)["global_step"] > 0
    assert Path(troubles[0][1]).parent == folder / "stop" / "checkpoints"


def test_where_one_sensor_is_silent_all_stop(results: list[dict[str, Any]]) -> None:
    troubles = [found["silent"]["trouble"] for found in results]
    assert troubles[0] == troubles[1]
    assert "no reading" in troubles[0][0]
    logged = [[text for text in found["silent"]["logged"] if "the driver is gone" in text] for found in results]
    assert (len(logged[0]), len(logged[1])) == (1, 0)  # the first rank says it for the other
