"""One of two ranks, the other of which is played by the test."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from w2v_abx.distributed import collectives as distributed
from w2v_abx.thermal import Decision, Governor, Reading, Simulated
from w2v_abx.thermal.keeper import BrokenOff, Keeper
from w2v_abx.training import signals

HOT: dict[str, Any] = {"ambient": 60, "cooling": 3, "idle_watts": 75, "slowdown": 89, "shutdown": 110}  # idles at 85 °C

Other = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def decisions() -> list[Decision]:
    return []


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, decisions: list[Decision]) -> Callable[..., Keeper]:
    """Makes a keeper; ``other``: what the other rank says, given what this one does."""

    def report(readings: list[Reading], decision: Decision, rank: int | None = None, time: float | None = None) -> None:
        decisions.append(decision)

    def made(plant: Simulated, governor: Governor | None = None, other: Other | None = None, ranks: int = 2) -> Keeper:
        def gather(value: Any) -> list[Any]:
            quiet = {"busy": 0.0, "rested": 0.0, "notes": [], "decisions": [], "stopped": None, "asked": 0}
            if isinstance(value, dict):
                return [value, {**value, **quiet, "readings": [], **(other(value) if other else {})}]
            return [value, []]

        monkeypatch.setattr(distributed, "world_size", lambda: ranks)
        monkeypatch.setattr(distributed, "gather", gather if ranks == 2 else lambda value: [value])
        return Keeper({"": plant}, governor or Governor(), torch.device("cpu"), 1.0, report)

    return made


def test_when_another_rank_is_asked_to_stop_none_rests_any_longer(make: Callable[..., Keeper]) -> None:
    plant = Simulated(**HOT)
    keeper = make(plant, other=lambda told: {"asked": 15 if told["now"] > 20 else 0})
    keeper.meet()
    assert 20 < plant.now() < 22  # it is too hot, and would rest for minutes
    keeper.act()
    assert plant.now() < 22


def test_alone_a_signal_has_the_step_given_up_and_an_evaluation_go_on(
    make: Callable[..., Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = Simulated(**HOT)
    keeper = make(plant, ranks=1)
    monkeypatch.setattr(signals, "asked", lambda: 15 if plant.now() > 20 else 0)
    keeper.batch(4)
    assert 20 < plant.now() < 22
    with pytest.raises(BrokenOff):
        keeper.act()
    keeper.batch(4)  # who looks for signals there would have left by now; who does not is held cool
    assert plant.now() > 30


def test_the_others_wait_for_a_batch_no_longer_than_they_can(
    make: Callable[..., Keeper], decisions: list[Decision], caplog: pytest.LogCaptureFixture
) -> None:
    plant = Simulated(**HOT)
    keeper = make(plant, Governor(patience=1e6))
    for batch in (1, 2):
        keeper.batch(4)
        assert plant.now() == pytest.approx(300 * batch, abs=1)
    plant.ambient = 20.0
    plant.sleep(300.0)
    keeper.meet()
    assert sum("has rested for 300 s" in text for text in caplog.messages) == 2
    assert decisions[0].cause == "limit"


def test_a_rank_that_should_have_stopped_has_all_stop(make: Callable[..., Keeper], decisions: list[Decision]) -> None:
    """Though it has cooled by the time that they meet."""
    plant = Simulated(shutdown=96, slowdown=95)
    keeper = make(plant)
    plant.temperature = 95.0
    plant.sleep(2.0)
    keeper.act()
    plant.sleep(600.0)
    keeper.meet()
    assert [decision.action for decision in decisions[-2:]] == ["rest", "stop"]
    assert "shuts down at 96" in decisions[-1].reason


@pytest.mark.parametrize("ranks", [1, 2])
def test_where_it_may_not_stop_it_rests_and_stops_at_the_next_step(
    make: Callable[..., Keeper], decisions: list[Decision], ranks: int
) -> None:
    plant = Simulated(**HOT)
    keeper = make(plant, Governor(patience=20), ranks=ranks)
    for _ in range(10):
        keeper.batch(4, stops=False)
        keeper.meet(stops=False)
    assert "stop" not in {decision.action for decision in decisions}
    assert plant.now() > 20 + 8 * 5 * (ranks == 1)
    keeper.meet(at_once=False)
    keeper.act()
    assert decisions[-1].action == "stop"
    assert "resting does not help" in decisions[-1].reason
