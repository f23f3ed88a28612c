"""What the governor promises, on simulated plants: a small grid, and plants that hypothesis draws.

benchmarks/thermal.py runs a larger grid, and says which devices lie outside.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from thermal_trial import Course, best_constant, blindness, run, settled_peak

from w2v_abx.config import CONF
from w2v_abx.thermal import Governor, GovernorSettings, Reading, Simulated

SECONDS, STEADY = 1600.0, 1000.0
BLIND = 0.6  # no promise for devices that see more of the way to the limit too late
SMALL = settings(max_examples=12, suppress_health_check=[HealthCheck.filter_too_much])


def holds(options: dict[str, Any], limit: float | None = None) -> None:
    """Never more than 1 °C above the limit, and no end; steady within 2 °C; at least 90 % of the best constant duty."""
    plant = Simulated(**options)
    course = run(plant, Governor(GovernorSettings(limit=limit)), SECONDS)
    limit = plant.slowdown - 5 if limit is None else limit
    assert course.ended is None
    assert course.peak() <= limit + 1
    assert course.swing(STEADY) <= 2
    assert course.rate(STEADY) >= 0.9 * best_constant(Simulated(**options), limit).rate


def grid() -> Iterator[dict[str, float]]:
    values = ((15.0, 42.0), (2.0, 5.0), (120.0, 800.0), (0.0, 6.0), (1.0,), (0.02, 0.2))
    for ambient, cooling, capacity, delay, resolution, seconds in itertools.product(*values):
        options = {
            "ambient": ambient,
            "cooling": cooling,
            "capacity": capacity,
            "delay": delay,
            "resolution": resolution,
            "clip_seconds": seconds,
        }
        if blindness(Simulated(**options), 85.0) <= BLIND:
            yield options


@pytest.mark.parametrize("options", grid(), ids=lambda options: "-".join(f"{value:g}" for value in options.values()))
def test_holds_the_limit_without_wasting_the_device(options: dict[str, float]) -> None:
    holds(options)


@given(
    ambient=st.floats(10, 42),
    cooling=st.floats(2, 8),
    capacity=st.floats(60, 1000),
    delay=st.floats(0, 8),
    resolution=st.sampled_from([0.0, 0.5, 1.0]),
    clip_seconds=st.floats(0.01, 0.4),
    overhead_clips=st.sampled_from([0.0, 0.5, 2.0]),
    size=st.floats(0.3, 2.0),
    limit=st.sampled_from([None, 70.0, 80.0]),
)
@SMALL
def test_holds_it_on_any_plant(size: float, limit: float | None, **options: float) -> None:
    """Of any size: watts, cooling and capacity together."""
    sized = {"cooling": options["cooling"] * size, "capacity": options["capacity"] * size}
    options |= sized | {"full_watts": 300 * size, "idle_watts": 40 * size}
    plant, held = Simulated(**options), limit or 85.0
    assume(held - plant.temperature >= 16)  # the target lies 1.5 °C below the limit: a tenth of the room that is left
    assume(blindness(plant, held) <= BLIND)
    holds(options, limit)


@pytest.mark.parametrize(
    "options", [{"ambient": 30.0, "cooling": 2.0}, {"ambient": 42.0, "cooling": 2.5, "delay": 4.0}]
)
def test_no_shutdown_where_the_ungoverned_run_shuts_down(options: dict[str, float]) -> None:
    assert run(Simulated(**options), None, SECONDS).ended == "shutdown"
    assert run(Simulated(**options), Governor(), SECONDS).ended is None


@given(
    ambient=st.floats(5, 42),
    cooling=st.floats(2, 8),
    capacity=st.floats(120, 1000),
    delay=st.floats(0, 8),
    resolution=st.sampled_from([0.0, 1.0]),
    watts=st.floats(60, 300),
    limit=st.floats(68, 85),
    silent_from=st.floats(5, 500),
    when_silent=st.sampled_from(["rest", "stop"]),
)
@SMALL
def test_a_sensor_that_goes_silent_at_any_moment_never_lets_the_device_overheat(
    ambient: float,
    cooling: float,
    capacity: float,
    delay: float,
    resolution: float,
    watts: float,
    limit: float,
    silent_from: float,
    when_silent: Any,
) -> None:
    options = {"ambient": ambient, "cooling": cooling, "capacity": capacity, "delay": delay, "resolution": resolution}
    plant = Simulated(**options, full_watts=watts)
    assume(limit - plant.temperature >= 16)
    assume(blindness(plant, limit) <= BLIND)
    governor = Governor(GovernorSettings(limit=limit, when_silent=when_silent, patience=60.0))
    course = run(plant, governor, silent_from + 300.0, sees=lambda reading: reading.time < silent_from)
    assert course.peak() <= limit + 1
    assert "no reading" in str(course.ended)
    assert plant.now() <= silent_from + 1 + 10 + 60 + (60 if when_silent == "rest" else 0) + 10


@pytest.mark.parametrize("silent_from", [40.0, 60.0, 100.0, 130.0])
@pytest.mark.parametrize("capacity", [300.0, 800.0])
@pytest.mark.parametrize("delay", [1.0, 8.0])
def test_a_slow_rise_that_steps_hide_does_not_go_on_while_the_sensor_is_silent(
    capacity: float, delay: float, silent_from: float
) -> None:
    plant = Simulated(ambient=42, cooling=2, capacity=capacity, delay=delay, resolution=1, clip_seconds=0.1)
    course = run(plant, Governor(), silent_from + 80.0, sees=lambda reading: reading.time < silent_from)
    assert course.peak() <= 86


def test_a_silent_sensor_that_answers_again_is_believed_again() -> None:
    course = run(Simulated(ambient=30, cooling=3), Governor(), 700.0, sees=lambda reading: not 300 < reading.time < 420)
    reasons = [decision.reason for decision in course.decisions]
    assert any("holds the last safe duty" in reason for reason in reasons)
    assert any("rests until the sensor answers" in reason for reason in reasons)
    late = [decision.cause for decision in course.decisions if "no reading" in decision.reason]
    assert late == sorted(late, key=["held", "blind"].index)
    assert set(late) == {"held", "blind"}
    assert "no reading" not in reasons[-1]
    assert course.peak() <= 86


def test_a_cool_device_is_left_alone() -> None:
    course = run(Simulated(ambient=15, cooling=8), Governor(), 600.0)
    assert {(decision.action, decision.microbatch) for decision in course.decisions} == {("run", None)}


@pytest.mark.parametrize("options", [{"cooling": 2.0, "capacity": 250.0}, {"cooling": 2.2, "capacity": 800.0}], ids=str)
def test_long_batches_that_cannot_be_made_smaller_stay_below_the_limit_by_rest(options: dict[str, float]) -> None:
    """As in validation. Each heats by some degrees, which no rest before or after it can help."""
    plant, governor = Simulated(ambient=30, clip_seconds=0.8, resolution=1, **options), Governor()
    course = run(plant, governor, SECONDS, batch=8, divisible=False)
    assert course.ended is None
    assert course.peak() <= 86
    assert {clips for _, clips in course.work} == {8}
    assert {decision.action for decision in course.decisions} == {"run", "rest"}
    within = max(duty for duty in (step / 100 for step in range(1, 100)) if settled_peak(plant, duty, 8) <= 85)
    assert course.rate(STEADY) >= 0.9 * within * 8 / (0.8 * 8.5)


@pytest.mark.parametrize(("preset", "limit"), [("default", 85.0), ("laptop", 80.0), ("quiet", 65.0)])
def test_each_preset_holds_a_hot_device_at_its_own_limit(preset: str, limit: float) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+thermal={preset}"]).thermal
    governor = Governor(instantiate(config.governor))
    course = run(Simulated(ambient=30, cooling=3, resolution=1), governor, SECONDS, period=config.period)
    assert course.peak() <= limit + 1
    assert course.swing(STEADY) <= 2
    assert min(temperature for time, temperature in course.trace if time > STEADY) >= limit - 4
    assert max(decision.rest_seconds for decision in course.decisions) <= config.governor.longest_rest


def test_long_micro_batches_shrink_and_grow_back_when_the_room_cools() -> None:
    plant = Simulated(ambient=35, cooling=3.5, clip_seconds=0.4)
    governor = Governor()
    hot = run(plant, governor, 600.0)
    assert any(decision.action == "shrink" for decision in hot.decisions)
    assert governor.microbatch is not None
    assert hot.peak() <= 86
    plant.ambient = 5.0
    grown = [decision for decision in run(plant, governor, 2500.0).decisions if decision.cause == "grow"]
    assert grown
    assert governor.microbatch is None


def test_a_fan_that_fails_in_the_middle_is_survived() -> None:
    """Within the margin, as nobody can see that coming."""
    plant, governor = Simulated(ambient=25, cooling=5, resolution=1), Governor()
    assert run(plant, governor, 600.0).swing(400.0) < 2
    plant.cooling = 2.0
    course = run(plant, governor, 1200.0)
    assert course.peak() <= 87
    assert course.swing(900.0) <= 2


class WithMemory:
    """A device whose memory is a plant of its own, warmed by the same work."""

    def __init__(self, core: Simulated, memory: Simulated) -> None:
        self.core, self.memory = core, memory
        self.now, self.idle_watts = core.now, core.idle_watts

    @property
    def temperature(self) -> float:
        return self.memory.temperature

    def sleep(self, seconds: float) -> None:
        self.core.sleep(seconds)
        self.memory.sleep(seconds)

    def work(self, clips: int) -> float:
        self.memory.work(clips)
        return self.core.work(clips)

    def read(self, time: float) -> Reading:
        core, memory = self.core.read(time), self.memory.read(time)
        known: dict[str, Any] = {
            "slowdown": core.slowdown,
            "memory": memory.temperature,
            "memory_slowdown": memory.slowdown,
        }
        return Reading(time, core.temperature, throttle=core.throttle, **known)


def test_the_memory_is_held_below_its_own_threshold_while_the_core_is_cool() -> None:
    device = WithMemory(Simulated(ambient=20, cooling=8), Simulated(ambient=30, cooling=3, slowdown=95, shutdown=105))
    governor = Governor()
    course: Course = run(device, governor, SECONDS)  # type: ignore[arg-type]
    assert course.peak() <= 91
    assert course.swing(STEADY) <= 2
    assert device.memory.temperature > 87
    assert device.core.temperature < 60
    assert any("memory:" in decision.reason for decision in course.decisions)


def test_hardware_that_slows_down_where_it_should_not_has_its_limit_lowered() -> None:
    """A limit above the slowdown temperature that the card does not name would else swing about it for ever."""
    plant = Simulated(ambient=30, cooling=3)

    class Unnamed:
        def __getattr__(self, name: str) -> Any:
            return getattr(plant, name)

        def read(self, time: float) -> Reading:
            seen = plant.read(time)
            return Reading(time, seen.temperature, throttle=seen.throttle)

    course = run(Unnamed(), Governor(GovernorSettings(limit=93)), SECONDS)  # type: ignore[arg-type]
    assert course.peak() <= 92
    late = [temperature for time, temperature in course.trace if time > STEADY]
    assert max(late) <= 87
    assert course.swing(STEADY) <= 2
    assert any("as the hardware slowed down at" in decision.reason for decision in course.decisions)
