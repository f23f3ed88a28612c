"""A training that goes astray is stopped, and what it went astray on is told."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from learner import Learner, fit, rows

from w2v_abx.errors import InputError
from w2v_abx.microbatch import Batch, NonFiniteLoss
from w2v_abx.saving import Diverged, DivergenceGuard
from w2v_abx.saving.files import find


class Astray(Learner):
    """Its loss is a thousandfold from a step on; ``infinite``: not finite."""

    def __init__(self, step: int, factor: float = 1000.0) -> None:
        super().__init__()
        self.step, self.factor = step, factor

    def loss_sum(self, micro: Batch) -> torch.Tensor:
        return super().loss_sum(micro) * (self.factor if self.global_step >= self.step else 1.0)


def diverged(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "diverged.json").read_text())
    return told


@pytest.mark.parametrize("watched", ["loss", "gradient"])
def test_far_above_the_running_median(watched: str, shards: Path, tmp_path: Path) -> None:
    guard = DivergenceGuard(tmp_path, loss_above=None, window=5)
    guard.limits[watched] = 50.0
    learner = Astray(9)
    with pytest.raises(Diverged, match=rf"the {watched} of step 9 is .*, more than 50 times its running median"):
        fit(tmp_path, shards, module=learner, callbacks=[guard], saving={"every_steps": 1})
    told = diverged(tmp_path)
    assert told["step"] == 9
    assert told[watched] > 50 * told[f"{watched}_median"] > 0
    last = [event for event in learner.events if event[0] == "train"][-1]
    assert [clip["key"] for clip in told["clips"]] == list(last[3:-1])
    assert {clip["corpus"] for clip in told["clips"]} == {"fixed"}
    assert find(tmp_path / "checkpoints").step == 9  # before the update of step 9
    assert [int(row["step"]) for row in rows(tmp_path) if row.get("train/loss")][-1] == 8


def test_a_loss_that_is_not_finite(shards: Path, tmp_path: Path) -> None:
    guard = DivergenceGuard(tmp_path)
    learner = Astray(7, float("nan"))
    with pytest.raises(NonFiniteLoss):
        fit(tmp_path, shards, module=learner, callbacks=[guard], saving={"every_steps": 1})
    told = diverged(tmp_path)
    assert (told["step"], told["loss"]) == (7, "not finite")
    last = [event for event in learner.events if event[0] == "train"][-1]
    assert told["clips"] == [{"key": key, "corpus": "fixed"} for key in last[3:-1]]
    assert find(tmp_path / "checkpoints").step == 7
    whole = fit(tmp_path / "whole", shards, max_epochs=-1, max_steps=7)
    at = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(at["layer.weight"], whole.layer.weight)


def test_what_is_switched_off(shards: Path, tmp_path: Path) -> None:
    fit(tmp_path, shards, module=Astray(9), callbacks=[DivergenceGuard(tmp_path, loss_above=None, window=5)])
    assert not (tmp_path / "diverged.json").exists()


def judge(guard: DivergenceGuard, values: list[float]) -> int | None:
    """The first value that the guard stops at."""
    for number, value in enumerate(values):
        guard._waiting.append(guard_step(number, value))
        try:
            guard._judge(keep=0)
        except Diverged:
            return number
    return None


def guard_step(number: int, value: float) -> Any:
    from w2v_abx.saving.divergence import _Step

    return _Step(number, [], [], {"loss": torch.tensor(value)}, None)


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([1.0] * 5 + [19.0, 21.0], 6),
        ([1.0] * 5 + [float("inf")], 5),
        ([1.0] * 4 + [30.0], None),  # too early to tell
        ([1.0] * 5 + [0.001] * 20 + [19.0], None),  # small losses vary
        ([1.0] * 5 + [15.0] * 20 + [250.0], None),  # what has grown slowly
        ([1.0] * 5 + [15.0] * 20 + [350.0], 25),
        ([-1.0] * 5 + [3.0], None),  # a multiple of what is negative says nothing
    ],
)
def test_what_is_far_above(values: list[float], stops: int | None, tmp_path: Path) -> None:
    assert judge(DivergenceGuard(tmp_path, window=5), values) == stops


def test_medians_go_on(tmp_path: Path) -> None:
    first = DivergenceGuard(tmp_path, window=5)
    assert judge(first, [1.0] * 7) is None
    again = DivergenceGuard(tmp_path, window=5)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert judge(again, [25.0]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_above": 1.0}, "divergence.loss_above=1.0 must be above 1"),
        ({"gradient_above": float("nan")}, "divergence.gradient_above=nan"),
        ({"window": 2}, "divergence.window=2 must be a whole number from 3"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        DivergenceGuard(tmp_path, **settings)
