"""One of two ranks, the other of which is played by the test."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch

from w2v_abx.distributed import collectives as distributed
from w2v_abx.system import signals
from w2v_abx.thermal import Decision, Governor, GovernorSettings, Reading, Simulated
from w2v_abx.thermal.controller import ThermalController
from w2v_abx.thermal.governor.heat import Heat

HOT: dict[str, Any] = {"ambient": 60, "cooling": 3, "idle_watts": 75, "slowdown": 89, "shutdown": 110}  # idles at 85 °C


class Recorded:
    """A throttle that notes its limits."""

    size: int | None = None
    handed: tuple[int, int] | None = None

    def __init__(self) -> None:
        self.hooks: list[Callable[[], None]] = []
        self.limits: list[int | None] = []

    def limit(self, cause: str, clips: int | None) -> None:
        assert cause == "heat"
        self.limits.append(clips)


Other = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def decisions() -> list[Decision]:
    return []


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, decisions: list[Decision]) -> Callable[..., ThermalController]:
    """Makes a controller; ``other``: what differs in the other rank's report, given this one's."""

    def report(readings: list[Reading], decision: Decision, rank: int | None = None, time: float | None = None) -> None:
        decisions.append(decision)

    def made(
        plant: Simulated, governor: Governor | None = None, other: Other | None = None, ranks: int = 2
    ) -> ThermalController:
        def gather(value: Any) -> list[Any]:
            if not isinstance(value, dict):
                return [value, []]
            decision = asdict(Decision("run", None, 0.0, "waits for the first reading", "wait"))
            quiet = {"decision": decision, "heats": {}, "readings": [], "alone": [], "notes": [], "asked": False}
            own = json.loads(json.dumps(value))
            return [own, {"now": own["now"], **quiet, **(other(own) if other else {})}]

        monkeypatch.setattr(distributed, "world_size", lambda: ranks)
        monkeypatch.setattr(distributed, "gather", gather if ranks == 2 else lambda value: [value])
        return ThermalController({"": plant}, governor or Governor(), torch.device("cpu"), 1.0, report)

    return made


def test_when_another_rank_is_asked_to_stop_none_rests_any_longer(make: Callable[..., ThermalController]) -> None:
    plant = Simulated(**HOT)
    controller = make(plant, other=lambda own: {"asked": own["now"] > 20})
    controller.synchronise()
    assert 20 < plant.now() < 22  # it is too hot, and would rest for minutes
    controller.pace()
    assert plant.now() < 22


def test_alone_a_signal_has_the_step_given_up_and_an_evaluation_go_on(
    make: Callable[..., ThermalController], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = Simulated(**HOT)
    controller = make(plant, ranks=1)
    monkeypatch.setattr(signals, "asked", lambda: 15 if plant.now() > 20 else 0)
    controller.before_batch(4)
    assert 20 < plant.now() < 22
    with pytest.raises(InterruptedError):
        controller.pace()
    controller.before_batch(4)  # who looks for signals there would have left by now; who does not is held cool
    assert plant.now() > 30


def test_the_others_wait_for_a_batch_no_longer_than_they_can(
    make: Callable[..., ThermalController], decisions: list[Decision], caplog: pytest.LogCaptureFixture
) -> None:
    plant = Simulated(**HOT)
    controller = make(plant, Governor(GovernorSettings(patience=1e6)))
    for batch in (1, 2):
        controller.before_batch(4)
        assert plant.now() == pytest.approx(300 * batch, abs=1)
    plant.ambient = 20.0
    plant.sleep(300.0)
    controller.synchronise()
    assert sum("has rested for 300 s" in text for text in caplog.messages) == 2
    assert decisions[0].cause == "limit"


def test_a_rank_that_should_have_stopped_has_all_stop(
    make: Callable[..., ThermalController], decisions: list[Decision]
) -> None:
    """Though it has cooled by the time that they synchronise."""
    plant = Simulated(shutdown=96, slowdown=95)
    controller = make(plant)
    plant.temperature = 95.0
    plant.sleep(2.0)
    controller.pace()
    plant.sleep(600.0)
    controller.synchronise()
    assert [decision.action for decision in decisions[-2:]] == ["rest", "stop"]
    assert "shuts down at 96" in decisions[-1].reason


@pytest.mark.parametrize("ranks", [1, 2])
def test_where_it_may_not_stop_it_rests_and_stops_at_the_next_step(
    make: Callable[..., ThermalController], decisions: list[Decision], ranks: int
) -> None:
    plant = Simulated(**HOT)
    controller = make(plant, Governor(GovernorSettings(patience=20)), ranks=ranks)
    for _ in range(10):
        controller.before_batch(4, stops=False)
        controller.synchronise(stops=False)
    assert "stop" not in {decision.action for decision in decisions}
    assert plant.now() > 20 + 8 * 5 * (ranks == 1)
    controller.synchronise()
    controller.pace()
    assert decisions[-1].action == "stop"
    assert "resting does not help" in decisions[-1].reason


def test_the_strictest_decision_of_all_ranks_holds(
    make: Callable[..., ThermalController], decisions: list[Decision]
) -> None:
    """And the duty of the hottest device of all holds from there on, alone, too."""
    limits = iter([4, 2, 4])

    def other(own: dict[str, Any]) -> dict[str, Any]:
        limit = next(limits)
        shrinks = asdict(Decision("shrink" if len(decisions) < 2 else "run", limit, 0.0, "rank 1: 79.0 °C", "ripple"))
        return {"decision": shrinks, "heats": {"rank 1": asdict(Heat(duty=0.25, temperature=79.0, excess=-1.0))}}

    plant, throttle = Simulated(), Recorded()
    controller = make(plant, other=other)
    controller.attach(throttle)
    for _ in range(3):
        controller.synchronise()
    assert [decision.action for decision in decisions] == ["shrink", "shrink", "run"]
    assert {decision.reason for decision in decisions} == {"rank 1: 79.0 °C"}
    assert throttle.limits == [None, 4, 2, 2]  # the other one has grown, this one has yet to
    assert controller.state_dict()["governor"]["microbatch"]["clips"] == 2
    assert controller.state_dict()["governor"]["others"]["rank 1"]["duty"] == controller.governor.duty == 0.25
    began = plant.now()
    controller.before_batch(4)
    controller.end()
    work = plant.now() - began
    controller.before_batch(4)
    assert plant.now() - began == pytest.approx(4 * work, abs=0.05)
