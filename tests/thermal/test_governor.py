"""The governor on the simulated plant, and as a pure function of what it is told."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_abx.errors import InputError
from w2v_abx.thermal import Decision, Governor, Ran, Reading, Simulated, SimulatedShutdown

BATCH = 16
Sees = Callable[[Reading], bool]


class Run:
    """Effective batches on a plant until the horizon, with or without a governor; ``sees`` drops readings."""

    def __init__(
        self, plant: Simulated, governor: Governor | None, horizon: float, sees: Sees = lambda reading: True
    ) -> None:
        self.trace: list[tuple[float, float]] = []
        self.decisions: list[Decision] = []
        self.clips: list[tuple[float, int]] = []
        self.plant, self.governor, self.sees = plant, governor, sees
        self.due = plant.now()
        size, busy = BATCH, 0.0
        while plant.now() < horizon:
            left = BATCH
            while left:
                size = min(left, self._ask(size, busy))
                if not size:
                    return
                busy = plant.work(size)
                left -= size
                self.clips.append((plant.now(), size))
                self.trace.append((plant.now(), plant.temperature))

    def _ask(self, size: int, busy: float) -> int:
        rested = 0.0
        while self.governor is not None:
            readings = []
            while self.due <= self.plant.now():
                readings.append(self.plant.read(self.due))
                self.due += 1.0
            readings = [reading for reading in readings if self.sees(reading)]
            decision = self.governor.decide(self.plant.now(), readings, Ran(busy, rested, size, BATCH))
            self.decisions.append(decision)
            busy = 0.0
            if decision.action == "stop":
                return 0
            if decision.action != "rest":
                return decision.microbatch or BATCH
            self.plant.sleep(decision.rest_seconds)
            rested = decision.rest_seconds
            self.trace.append((self.plant.now(), self.plant.temperature))
        return BATCH

    def peak(self) -> float:
        return max(temperature for _, temperature in self.trace)

    def after(self, time: float) -> list[float]:
        return [temperature for at, temperature in self.trace if at >= time]


def grid() -> Iterator[dict[str, Any]]:
    for ambient, cooling, capacity, delay, resolution in itertools.product(
        (15.0, 30.0, 42.0), (3.0, 6.0), (120.0, 800.0), (0.0, 4.0), (0.0, 1.0)
    ):
        yield {
            "ambient": ambient,
            "cooling": cooling,
            "capacity": capacity,
            "delay": delay,
            "resolution": resolution,
            "clip_seconds": 0.1,
        }


@pytest.mark.parametrize("options", grid(), ids=lambda options: "-".join(f"{value:g}" for value in options.values()))
def test_holds_the_limit_without_wasting_the_device(options: dict[str, Any]) -> None:
    """Never more than 1 °C above the limit; steady within 2 °C; at least 90 % of the best constant duty's clips."""
    plant = Simulated(**options)
    limit = plant.slowdown - 5
    run = Run(plant, Governor(), 1600.0)
    assert run.peak() <= limit + 1
    assert not any(decision.action == "stop" for decision in run.decisions)
    steady = run.after(900.0)
    assert max(steady) - min(steady) <= 2
    # The best constant duty settles at the limit: ambient + (idle + duty · extra) / cooling = limit, whole batches.
    extra = (plant.full_watts - plant.idle_watts) * BATCH / (BATCH + plant.overhead_clips)
    best = min(1.0, ((limit - plant.ambient) * plant.cooling - plant.idle_watts) / extra)
    rate = BATCH / (plant.clip_seconds * (BATCH + plant.overhead_clips))
    done = sum(clips for at, clips in run.clips if at >= 900.0) / (plant.now() - 900.0)
    assert done >= 0.9 * best * rate


def test_the_ungoverned_run_shuts_down_where_the_governed_one_does_not() -> None:
    with pytest.raises(SimulatedShutdown):
        Run(Simulated(ambient=30, cooling=2), None, 1600.0)
    assert Run(Simulated(ambient=30, cooling=2), Governor(), 1600.0).peak() <= 86


def test_a_cool_device_is_left_alone() -> None:
    run = Run(Simulated(ambient=15, cooling=8), Governor(), 600.0)
    assert {(decision.action, decision.microbatch) for decision in run.decisions} == {("run", None)}


def test_long_micro_batches_shrink_and_grow_back_when_the_room_cools() -> None:
    plant = Simulated(ambient=35, cooling=3.5, clip_seconds=0.4)
    governor = Governor()
    hot = Run(plant, governor, 600.0)
    assert any(decision.action == "shrink" for decision in hot.decisions)
    assert governor.state.microbatch is not None
    assert hot.peak() <= 86
    plant.ambient = 5.0
    Run(plant, governor, 1500.0)
    assert governor.state.microbatch is None


@given(
    ambient=st.floats(5, 42),
    cooling=st.floats(3, 8),
    capacity=st.floats(120, 1000),
    delay=st.floats(0, 4),
    watts=st.floats(60, 300),
    limit=st.floats(68, 85),
    silent_from=st.floats(5, 500),
    when_silent=st.sampled_from(["rest", "stop"]),
)
@settings(max_examples=25, deadline=None)
def test_a_sensor_that_goes_silent_at_any_moment_never_lets_the_device_overheat(
    ambient: float,
    cooling: float,
    capacity: float,
    delay: float,
    watts: float,
    limit: float,
    silent_from: float,
    when_silent: Any,
) -> None:
    plant = Simulated(ambient=ambient, cooling=cooling, capacity=capacity, delay=delay, full_watts=watts)
    governor = Governor(limit=limit, when_silent=when_silent, hold=30.0, patience=60.0)
    run = Run(plant, governor, silent_from + 300.0, lambda reading: reading.time < silent_from)
    assert run.peak() <= limit + 1
    last = run.decisions[-1]
    assert last.action == "stop"
    assert "no reading" in last.reason
    assert plant.now() <= silent_from + 1 + 10 + 30 + (60 if when_silent == "rest" else 0) + 10


def test_a_silent_sensor_that_answers_again_is_believed_again() -> None:
    run = Run(Simulated(ambient=30, cooling=3), Governor(), 700.0, lambda reading: not 300 < reading.time < 420)
    reasons = [decision.reason for decision in run.decisions]
    assert any("holds the last safe duty" in reason for reason in reasons)
    assert any("rests until the sensor answers" in reason for reason in reasons)
    assert "no reading" not in reasons[-1]
    assert run.peak() <= 86


def still(time: float, temperature: float, **limits: float) -> Reading:
    return Reading(time, temperature, **limits)  # type: ignore[arg-type]


def test_stops_when_resting_does_not_help() -> None:
    governor = Governor(limit=80, patience=100)
    actions = [governor.decide(t, [still(t, 82)], Ran(0, 1, 4, 4)).action for t in map(float, range(120))]
    assert actions[:100] == ["rest"] * 100
    assert actions[-1] == "stop"


def test_stops_at_once_just_below_shutdown() -> None:
    decision = Governor().decide(0.0, [still(0.0, 94, slowdown=90, shutdown=95)], Ran())
    assert decision.action == "stop"
    assert "shuts down" in decision.reason


def test_a_fast_rise_is_met_before_the_limit() -> None:
    governor = Governor(limit=80)
    slow = [governor.decide(float(t), [still(float(t), 60 + t / 100)], Ran(1, 0, 4, 4)) for t in range(20)]
    assert {decision.action for decision in slow} == {"run"}
    fast = [governor.decide(20.0 + t, [still(20.0 + t, 60 + 2.5 * t)], Ran(0.1, 0, 4, 4)) for t in range(7)]
    assert fast[-1].action == "rest"


@pytest.mark.parametrize(
    ("limits", "expected"), [({"slowdown": 90.0}, 85.0), ({"slowdown": 90.0, "shutdown": 100.0}, 85.0), ({}, 80.0)]
)
def test_the_limit_is_the_devices_own_unless_given(limits: dict[str, float], expected: float) -> None:
    own, given_limit = Governor(), Governor(limit=70)
    own.decide(0.0, [still(0.0, 40, **limits)], Ran())
    given_limit.decide(0.0, [still(0.0, 40, **limits)], Ran())
    assert (own.target, given_limit.target) == (expected - 2.5, 67.5)


def test_a_restored_governor_goes_on_as_if_never_stopped() -> None:
    """The same decisions from the same readings, whether the memory went through a checkpoint or not."""
    options = {"ambient": 33.0, "cooling": 3.0, "clip_seconds": 0.3}
    plant, governor = Simulated(**options), Governor()
    Run(plant, governor, 400.0)
    state, heat = governor.state_dict(), plant.state_dict()
    fresh, again = Governor(), Simulated(**options)
    fresh.load_state_dict(state)
    again.load_state_dict(heat)
    assert fresh.state.microbatch == governor.state.microbatch
    assert fresh.state.duty == governor.state.duty < 1
    run = Run(again, fresh, 800.0)
    assert run.peak() <= 86
    assert max(run.after(500.0)) - min(run.after(500.0)) <= 2


@pytest.mark.parametrize(
    "bad",
    [
        {"margin": -1},
        {"limit": 200},
        {"limit": math.nan},
        {"lowest_duty": 0},
        {"longest_rest": 0},
        {"patience": math.inf},
        {"when_silent": "guess"},
    ],
)
def test_values_out_of_range_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Governor(**bad)
