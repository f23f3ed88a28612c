"""The plant obeys its differential equation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.errors import InputError
from w2v_abx.thermal import Sensor, Simulated


@given(ambient=st.floats(0, 40), cooling=st.floats(2, 10), capacity=st.floats(50, 1000), seconds=st.floats(0.1, 500))
def test_cooling_is_exponential(ambient: float, cooling: float, capacity: float, seconds: float) -> None:
    plant = Simulated(ambient=ambient, cooling=cooling, capacity=capacity, idle_watts=0)
    plant.temperature = 70.0
    plant.sleep(seconds)
    expected = ambient + (70 - ambient) * math.exp(-seconds * cooling / capacity)
    assert plant.temperature == pytest.approx(expected, abs=1e-6)
    assert plant.now() == pytest.approx(seconds)


def test_work_settles_at_the_balance_of_power_and_cooling() -> None:
    plant = Simulated(ambient=20, cooling=6, full_watts=300, idle_watts=40, overhead_clips=0)
    while plant.now() < 1000:
        assert plant.work(16) == pytest.approx(16 * plant.clip_seconds)
    assert plant.temperature == pytest.approx(20 + 300 / 6, abs=0.01)


def test_small_micro_batches_are_cooler_and_slower() -> None:
    whole, divided = Simulated(), Simulated()
    quick = whole.work(16)
    slow = sum(divided.work(1) for _ in range(16))
    assert slow > quick
    assert divided.power < whole.power


def test_throttling_halves_the_speed_until_it_is_cooler() -> None:
    plant = Simulated(clip_seconds=1, overhead_clips=0, slowdown=60, shutdown=99)
    plant.temperature = 75.0
    plant.sleep(0.1)
    assert plant.read(plant.now()).throttled
    assert plant.work(1) == pytest.approx(2)
    plant.sleep(300)
    assert not plant.read(plant.now()).throttled
    assert plant.work(1) == pytest.approx(1)


def test_the_sensor_lags_and_rounds() -> None:
    exact, late = Simulated(delay=0), Simulated(delay=5, resolution=1)
    seen = []
    for plant in (exact, late):
        for _ in range(100):
            plant.work(4)
    times = [float(t) for t in range(int(exact.now()))]
    truth = [exact.read(t).temperature for t in times]
    seen = [late.read(t).temperature for t in times]
    assert seen[5:] == [pytest.approx(value, abs=0.6) for value in truth[:-5]]
    assert all(value == int(value) for value in seen)


def test_is_a_sensor() -> None:
    assert isinstance(Simulated(), Sensor)


@pytest.mark.parametrize("bad", [{"cooling": 0}, {"capacity": -1}, {"ambient": 95}, {"delay": -1}, {"idle_watts": 400}])
def test_impossible_plants_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Simulated(**bad)
