"""The objectives' loss curves do not depend on how their batches of clips of mixed lengths are cut."""

from pathlib import Path
from typing import Any

import pytest
import torch
from elastic_objectives import CLIPS, STEPS, prepare, run

from w2v_abx.errors import InputError
from w2v_abx.training.microbatch import ElasticModule, MicroBatching

KINDS = ["supervised", "frames", "clips", "masked_prediction", "pretrain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any]]:
    return request.param, run(request.param, folder)


def assert_same(found: dict[str, Any], whole: dict[str, Any]) -> None:
    assert len(found["losses"]) == STEPS
    torch.testing.assert_close(found["losses"], whole["losses"], rtol=1e-5, atol=0)
    torch.testing.assert_close(found["weights"], whole["weights"], rtol=1e-4, atol=1e-6)


def test_it_trains(whole: tuple[str, dict[str, Any]]) -> None:
    losses = whole[1]["losses"]
    assert len(set(losses)) == STEPS
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("size", [1, 2, 4, CLIPS])
def test_micro_batches_of_so_many_clips(size: int, whole: tuple[str, dict[str, Any]], folder: Path) -> None:
    assert_same(run(whole[0], folder, microbatch=MicroBatching(clips=size)), whole[1])


def test_micro_batches_of_so_much_audio(whole: tuple[str, dict[str, Any]], folder: Path) -> None:
    assert_same(run(whole[0], folder, microbatch=MicroBatching(seconds=2.0)), whole[1])


def test_micro_batches_that_shrink_in_the_middle(whole: tuple[str, dict[str, Any]], folder: Path) -> None:
    calls = 0

    def shrink(module: ElasticModule) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # the second micro-batch of the second step
            module.microbatches.limit("heat", 2)

    assert_same(run(whole[0], folder, watch=shrink, microbatch=MicroBatching(clips=5)), whole[1])
    assert calls == 2 + 1 + 2 + 4 * (STEPS - 2)  # 5 + 3; 5, then 2 + 1; and micro-batches of two


def test_more_clips_at_once_than_a_step_has_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"microbatch.clips=9 is more than the 8 clips .* data.batch_size=8"):
        run("supervised", folder, microbatch=MicroBatching(clips=9))


def test_micro_batches_that_auto_finds(whole: tuple[str, dict[str, Any]], folder: Path) -> None:
    assert_same(run(whole[0], folder, microbatch=MicroBatching(clips="auto")), whole[1])
