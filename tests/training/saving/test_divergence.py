"""A training that goes astray is stopped, and what it went astray on is told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from learner import Learner, fit, newest_step, rows

from w2v_abx.data.batch import Batch
from w2v_abx.errors import InputError, Unlearnable
from w2v_abx.training.microbatch import NonFiniteLoss
from w2v_abx.training.saving import DivergenceGuard


class Astray(Learner):
    """Its loss is a thousandfold from a step on; ``infinite``: not finite."""

    def __init__(self, step: int, factor: float = 1000.0) -> None:
        super().__init__()
        self.step, self.factor = step, factor

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, torch.Tensor]:
        factor = self.factor if self.global_step >= self.step else 1.0
        return {"loss": super().loss(micro, totals)["loss"] * factor}


def diverged(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "diverged.json").read_text())
    return told


@pytest.mark.parametrize("watched", ["loss", "gradient"])
def test_far_above_the_running_median(watched: str, shards: Path, tmp_path: Path) -> None:
    guard = DivergenceGuard(tmp_path, loss_above=None, window=5)
    guard.limits[watched] = 50.0
    learner = Astray(9)
    with pytest.raises(Unlearnable, match=rf"the {watched} of step 9 is .*, more than 50 times its running median"):
        fit(tmp_path, shards, module=learner, callbacks=[guard], saving={"every_steps": 1})
    told = diverged(tmp_path)
    assert told["step"] == 9
    assert told[watched] > 50 * told[f"{watched}_median"] > 0
    last = [event for event in learner.events if event[0] == "train"][-1]
    assert [clip["key"] for clip in told["clips"]] == list(last[3:-1])
    assert {clip["corpus"] for clip in told["clips"]} == {"fixed"}
    assert newest_step(tmp_path) == 9  # before the update of step 9
    assert [int(row["step"]) for row in rows(tmp_path) if row.get("train/loss")][-1] == 8


class Fused(Astray):
    """Its optimiser is told of a step that is not finite, and the host a step later."""

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.05, fused=True)


@pytest.mark.parametrize("kind", [Astray, Fused])
def test_a_loss_that_is_not_finite(kind: type[Astray], shards: Path, tmp_path: Path) -> None:
    guard = DivergenceGuard(tmp_path, window=3)
    learner = kind(7, float("nan"))
    with pytest.raises(NonFiniteLoss):
        fit(tmp_path, shards, module=learner, callbacks=[guard], saving={"every_steps": 1})
    told = diverged(tmp_path)
    assert (told["step"], told["loss"]) == (7, "not finite")
    last = [event for event in learner.events if event[0] == "train"][-1]
    assert told["clips"] == [{"key": key, "corpus": "fixed"} for key in last[3:-1]]
    assert newest_step(tmp_path) == 7
    whole = fit(tmp_path / "whole", shards, module=kind(99), max_epochs=-1, max_steps=7)
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
        except Unlearnable:
            return number
    return None


def guard_step(number: int, value: float) -> Any:
    return number, [], {"loss": lambda: torch.tensor(value)}


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([1.0] * 5 + [19.0, 21.0], 6),
        ([1.0] * 5 + [float("inf"), float("nan")] * 9 + [19.0, 21.0], 24),  # others notice them
        ([1.0] * 4 + [30.0], None),  # too early to tell
        ([1.0] * 5 + [0.001] * 20 + [19.0], None),  # small losses vary
        ([1.0] * 5 + [9.0] * 20 + [170.0], None),  # what has grown slowly
        ([1.0] * 5 + [9.0] * 20 + [190.0], 25),
        ([1.0] * 5 + [15.0] * 20 + [250.0], 25),  # … but not further
        ([1.5**step for step in range(99)], 16),
        ([0.0] * 5 + [15.0] * 20 + [250.0], None),  # nothing is a multiple of zero
        ([-1.0] * 5 + [3.0], None),  # a multiple of what is negative says nothing
    ],
)
def test_what_is_far_above(values: list[float], stops: int | None, tmp_path: Path) -> None:
    assert judge(DivergenceGuard(tmp_path, window=5), values) == stops


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([1.0] * 10 + [21.0], 10),
        ([1.0] * 9 + [21.0], None),
        ([1.0] * 30 + [1e6] * 99, 30),
        ([0.6] * 12 + [5e-4] * 40 + [0.57, 11.0, 13.0], 54),  # what is learnt within some steps
        ([1.05**step for step in range(999)], 114),
        ([1.0] * 500 + [1.05**step for step in range(999)], 609),
    ],
)
def test_explosions(values: list[float], stops: int | None, tmp_path: Path) -> None:
    assert judge(DivergenceGuard(tmp_path), values) == stops


def test_a_full_disk_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("w2v_abx.system.atomic.write_json", full)
    assert judge(DivergenceGuard(tmp_path, window=5), [1.0] * 5 + [21.0]) == 5
    assert "diverged.json cannot be written (No space left on device)" in caplog.text


def test_what_is_saved_has_been_judged(tmp_path: Path) -> None:
    guard = DivergenceGuard(tmp_path, window=3)
    guard._waiting.extend(guard_step(step, value) for step, value in enumerate([1.0, 1.0, 2.0]))
    state = guard.state_dict()
    assert state["first"]["loss"] == state["last"]["loss"] == [1.0, 1.0, 2.0]
    judge(guard, [1.0])
    assert state["last"]["loss"] == [1.0, 1.0, 2.0]


def test_medians_go_on(tmp_path: Path) -> None:
    first = DivergenceGuard(tmp_path, window=5)
    assert judge(first, [1.0] * 7) is None
    again = DivergenceGuard(tmp_path, window=5)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert judge(again, [25.0]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_above": 1.0}, "callbacks.divergence.loss_above=1.0 must be a number above 1"),
        ({"gradient_above": float("nan")}, "divergence.gradient_above=nan"),
        ({"window": 2}, "divergence.window=2 must be a whole number from 3"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        DivergenceGuard(tmp_path, **settings)
