"""One temperature: what is learnt of it, and the duty that it allows."""

import pytest

from w2v_abx.thermal.governor.heat import Heat


def ramp(heat: Heat, begin: float, slope: float, seconds: int, *, limit: float = 80.0, duty: float = 1.0) -> None:
    start = 0 if heat.read_at is None else int(heat.read_at) + 1
    for second in range(seconds):
        heat.learn(float(start + second), begin + slope * second, limit, 1.5, duty)


def test_slope_and_heating_are_learnt_from_a_ramp() -> None:
    heat = Heat()
    ramp(heat, 20.0, 1.2, 30)
    assert heat.slope == pytest.approx(1.2, rel=0.01)
    assert heat.heating == pytest.approx(1.2, rel=0.01)
    half = Heat()
    ramp(half, 20.0, 1.2, 60, duty=0.5)
    assert half.heating == pytest.approx(2.4, rel=0.01)  # at full duty


def test_far_below_and_level_the_duty_grows_and_near_and_rising_it_falls() -> None:
    cold, near = Heat(duty=0.5, heating=1.0, begun=True), Heat(duty=0.5, heating=1.0, begun=True)
    ramp(cold, 40.0, 0.0, 10)
    assert cold.duty > 0.55
    ramp(near, 74.0, 0.4, 10)
    assert near.duty < 0.45


def test_the_duty_falls_faster_than_it_grows() -> None:
    up, down = Heat(duty=0.5, heating=1.0, begun=True), Heat(duty=0.5, heating=1.0, begun=True)
    ramp(up, 0.0, -5.0, 4)
    ramp(down, 40.0, 10.0, 4)
    assert up.duty - 0.5 <= 4 * 0.03 + 1e-9
    assert 0.5 - down.duty > 2 * (up.duty - 0.5)


def test_one_step_of_a_coarse_sensor_is_no_rise_and_a_fast_rise_is() -> None:
    heat = Heat()
    for second in range(30):
        heat.learn(float(second), 77.0 + (second >= 29), 80.0, 1.5, 1.0)
    assert heat.slope > 0.2
    assert heat.foreseen(29.0, 5.0) == -2.0
    fast = Heat()
    ramp(fast, 60.0, 2.0, 8)
    assert fast.foreseen(7.0, 5.0) > -6 + 5  # 74 °C and rising: it would be beyond


def test_a_reading_that_grows_old_is_expected_to_have_risen_on() -> None:
    heat = Heat()
    ramp(heat, 40.0, 1.0, 20)
    assert heat.foreseen(25.0, 5.0) > heat.foreseen(20.0, 5.0) + 3


def test_readings_that_jump_about_are_a_swing_and_no_rise() -> None:
    heat = Heat(duty=0.5, heating=1.6, begun=True)
    for second in range(100):
        heat.learn(float(second), 70 + (6 if second % 2 else -6), 80.0, 1.5, 0.5)
    assert heat.swing > 5
    assert heat.foreseen(99.0, 5.0) == heat.excess
    assert heat.duty > 0.25


def test_a_device_that_begins_hot_begins_with_care() -> None:
    cold, warm, hot = Heat(), Heat(), Heat()
    for heat, temperature in ((cold, 30.0), (warm, 60.0), (hot, 79.0)):
        heat.learn(0.0, temperature, 80.0, 1.5, 1.0)
    assert (cold.duty, warm.duty, hot.duty) == (1.0, 0.5, 0.3)


def test_what_is_forgotten_and_what_is_not() -> None:
    heat = Heat()
    ramp(heat, 40.0, 1.0, 20)
    heating, duty = heat.heating, heat.duty
    heat.forget()
    assert (heat.temperature, heat.excess, heat.read_at, heat.slope) == (None, None, None, 0.0)
    assert (heat.heating, heat.duty) == (heating, duty)


@pytest.mark.parametrize("duty", [0.05, 0.9])
def test_a_slow_device_goes_on_with_its_duty_after_it_was_left_alone(duty: float) -> None:
    """Even where no rise was steep enough to be learnt from."""
    heat = Heat()
    ramp(heat, 70.0, 0.0, 5)
    heat.duty = duty
    heat.forget()
    heat.learn(100.0, 70.0, 80.0, 1.5, 1.0)
    assert heat.duty == duty


def test_the_steady_duty_is_below_the_one_that_heats_by_as_much_as_was_or_could_not_be_seen() -> None:
    rising, exact, coarse = Heat(), Heat(), Heat()
    ramp(rising, 20.0, 1.2, 60, duty=0.5)
    assert rising.heating == pytest.approx(2.4, rel=0.01)
    assert rising.steady(0.5) == pytest.approx(0.0, abs=0.03)
    ramp(exact, 70.0, 1e-6, 60)
    assert exact.steady(0.5) == pytest.approx(0.5, abs=1e-3)
    ramp(coarse, 70.0, 0.0, 60)
    assert coarse.steady(0.5) == pytest.approx(0.4, abs=1e-3)  # 1 °C in 20 s would not have been seen
