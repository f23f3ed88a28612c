"""Constant duties, searched in closed form, are what the plant does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thermal_trial import best_constant, run, settled_peak

from w2v_abx.thermal import Governor, Simulated

OPTIONS = st.fixed_dictionaries(
    {
        "ambient": st.floats(10, 42),
        "cooling": st.floats(3, 8),
        "capacity": st.floats(100, 300),
        "clip_seconds": st.floats(0.02, 0.4),
        "overhead_clips": st.sampled_from([0.0, 0.5, 2.0]),
    }
)


def held_at(plant: Simulated, duty: float, clips: int, seconds: float) -> tuple[float, float]:
    """The slow way: highest temperature of the last fifth, and clips per second, of work and rest in alternation."""
    begin, done, peak = plant.now(), 0, 0.0
    while plant.now() - begin < seconds:
        busy = plant.work(clips)
        done += clips
        if plant.now() - begin > 0.8 * seconds:
            peak = max(peak, plant.temperature)
        plant.sleep(busy * (1 / duty - 1))
    return peak, done / (plant.now() - begin)


@given(options=OPTIONS, duty=st.floats(0.1, 1), clips=st.sampled_from([1, 4, 16]))
@settings(max_examples=20)
def test_the_settled_peak_is_what_a_constant_duty_comes_to(options: dict[str, float], duty: float, clips: int) -> None:
    plant = Simulated(**options, slowdown=400, shutdown=401)
    cycle = plant.clip_seconds * (clips + plant.overhead_clips) / duty
    peak, _ = held_at(plant, duty, clips, max(15 * plant.capacity / plant.cooling, 10 * cycle))
    assert settled_peak(plant, duty, clips) == pytest.approx(peak, abs=0.05)


@given(options=OPTIONS)
@settings(max_examples=10)
def test_no_constant_duty_of_a_fine_grid_does_better(options: dict[str, float]) -> None:
    plant = Simulated(**options, slowdown=400, shutdown=401)
    best = best_constant(plant, 85.0)
    assert settled_peak(plant, max(best.duty, 1e-6), best.clips) <= 85.0 + 1e-6
    for clips in (16, 8, 4, 2, 1):
        for duty in (step / 200 for step in range(1, 201)):
            if settled_peak(plant, duty, clips) <= 85.0:
                seconds = plant.clip_seconds * (clips + plant.overhead_clips)
                assert duty * clips / seconds <= best.rate * (1 + 1e-9)


def test_the_best_constant_duty_does_as_many_clips_as_it_says() -> None:
    plant = Simulated(ambient=30, cooling=3, clip_seconds=0.1)
    best = best_constant(plant, 85.0)
    peak, rate = held_at(plant, best.duty, best.clips, 1500.0)
    assert peak == pytest.approx(85.0, abs=0.05)
    assert rate == pytest.approx(best.rate, rel=0.01)


def test_a_course_tells_what_happened() -> None:
    free = run(Simulated(ambient=30, cooling=2), None, 1000.0)
    assert free.ended == "shutdown"
    assert free.peak() >= 95
    cool = run(Simulated(ambient=15, cooling=9), Governor(), 200.0, batch=4)
    assert cool.ended is None
    assert cool.rate(0.0) == pytest.approx(4 / (0.05 * 4.5), rel=0.02)
    assert cool.swing(0.0) > 5
