"""The governor as a pure function of readings and time. What it makes of plants: test_claims.py."""

import math
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest
from omegaconf import OmegaConf
from thermal_trial import run

from w2v_abx.config import CONF
from w2v_abx.errors import InputError
from w2v_abx.thermal import Decision, Governor, GovernorSettings, Reading, Simulated, StepStats
from w2v_abx.thermal.governor.heat import Heat
from w2v_abx.thermal.sensors.sensor import HARDWARE_HEAT, SOFTWARE_HEAT


def still(time: float, temperature: float, **more: Any) -> Reading:
    return Reading(time, temperature, **more)


STATS = StepStats(0.5, 0, 0.5, 4, 4)


def decide_on(governor: Governor, temperatures: list[float], stats: StepStats = STATS, **more: Any) -> list[Decision]:
    """A reading each second, and the decisions."""
    return [governor.decide(float(t), [still(float(t), value, **more)], stats) for t, value in enumerate(temperatures)]


def test_stops_when_resting_does_not_help() -> None:
    decisions = decide_on(Governor(GovernorSettings(limit=80, patience=100)), [82.0] * 120, StepStats(0, 1, 0, 4, 4))
    assert {decision.action for decision in decisions[:100]} == {"rest"}
    assert decisions[-1].action == "stop"
    assert "resting does not help" in decisions[-1].reason


def test_stops_at_once_just_below_shutdown() -> None:
    decision = Governor().decide(0.0, [still(0.0, 94, slowdown=90, shutdown=95)], StepStats())
    assert decision.action == "stop"
    assert "shuts down" in decision.reason


def test_a_fast_rise_is_met_before_the_limit() -> None:
    governor = Governor(GovernorSettings(limit=80))
    slow = decide_on(governor, [38 + t / 100 for t in range(20)], StepStats(0.1, 0, 0.1, 4, 4))
    assert {decision.action for decision in slow} == {"run"}
    fast = decide_on(
        Governor(GovernorSettings(limit=80)), [60 + 2.5 * t for t in range(7)], StepStats(0.1, 0, 0.1, 1, 4)
    )
    assert fast[-1].action == "rest"
    assert fast[-1].cause == "limit"


def test_a_micro_batch_that_would_end_beyond_the_limit_shrinks_to_what_fits() -> None:
    governor = Governor(GovernorSettings(limit=80))
    decide_on(governor, [20 + t for t in range(50)], StepStats(0.1, 0, 0.1, 1, 16))
    decision = governor.decide(49.5, [], StepStats(16.0, 0, 16.0, 16, 16))
    assert decision.action == "shrink"
    assert "would end beyond the limit" in decision.reason
    assert decision.microbatch is not None
    assert decision.microbatch == 3  # some 2 °C, at 1 s a clip and 1 °C/s


def limit_of(governor: Governor, **limits: float) -> tuple[float, ...]:
    governor.decide(0.0, [still(0.0, 40, **limits)], StepStats())
    heats = governor.heats.values()
    return tuple(heat.temperature - heat.excess for heat in heats)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("limits", "expected"), [({"slowdown": 90.0}, 85.0), ({"slowdown": 90.0, "shutdown": 100.0}, 85.0), ({}, 80.0)]
)
def test_the_limit_is_the_devices_own_unless_given(limits: dict[str, float], expected: float) -> None:
    assert limit_of(Governor(), **limits) == (expected,)
    assert limit_of(Governor(GovernorSettings(limit=70)), **limits) == (70.0,)


def test_the_memory_has_a_limit_of_its_own_if_the_card_names_one_or_it_is_given() -> None:
    assert limit_of(Governor(), slowdown=90.0, memory=60.0, memory_slowdown=105.0) == (85.0, 100.0)
    assert limit_of(Governor(GovernorSettings(memory_limit=88)), slowdown=90.0, memory=60.0) == (85.0, 88.0)
    assert limit_of(Governor(), slowdown=90.0, memory=60.0) == (85.0,)


def test_hot_memory_rests_a_device_whose_core_is_cool() -> None:
    decision = decide_on(Governor(), [50.0] * 5, memory=101.0, memory_slowdown=105.0)[-1]
    assert decision.action == "rest"
    assert "memory: 101.0 °C" in decision.reason


@pytest.mark.parametrize(("word", "action"), [(HARDWARE_HEAT, "rest"), (SOFTWARE_HEAT, "run"), ("power cap", "run")])
def test_only_hardware_that_slows_itself_down_because_of_heat_is_rested(word: str, action: str) -> None:
    """The driver's own slowdown holds the card's own target, which does nobody harm."""
    assert decide_on(Governor(), [35.0] * 3, throttle=(word,), slowdown=90.0)[-1].action == action


def test_micro_batches_that_cannot_be_made_smaller_are_rested_instead() -> None:
    governor = Governor(GovernorSettings(limit=80))
    decisions = decide_on(governor, [60 + 2.5 * t for t in range(9)], StepStats(6.4))
    assert {decision.action for decision in decisions} == {"rest"}
    assert decisions[-1].cause == "limit"
    assert governor.microbatch is None


@pytest.mark.parametrize("divisible", [True, False])
def test_micro_batches_grow_back_a_step_at_a_time_when_it_was_cool_for_so_long(divisible: bool) -> None:
    governor = Governor(GovernorSettings(limit=80, grow_after=30))
    governor.microbatches.clips = 1
    decisions = decide_on(governor, [30.0] * 100, StepStats(0.1, 0, 0.1 * divisible, 1, 4))
    grown = [t for t, decision in enumerate(decisions) if decision.cause == "grow"]
    assert grown == ([30, 60] if divisible else [])
    assert [decisions[t].microbatch for t in grown] == [2, None][: len(grown)]


@pytest.mark.parametrize(("hysteresis", "cool"), [(0.5, False), (1.5, True)])
def test_it_is_cool_up_to_so_far_above_the_target(hysteresis: float, cool: bool) -> None:
    """78 °C, where 77 °C is to be held."""
    governor = Governor(GovernorSettings(limit=80, headroom=3, hysteresis=hysteresis, grow_after=10))
    governor.microbatches.clips = 1
    causes = {decision.cause for decision in decide_on(governor, [78.0] * 20, StepStats(0.1, 0, 0.1, 1, 4))}
    assert ("grow" in causes) == cool


def test_the_hottest_of_several_devices_counts() -> None:
    governor = Governor(GovernorSettings(limit=80))
    governor.expect(["left", "right"])
    for t in range(5):
        pair = [still(float(t), 40, device="left"), still(float(t), 81, device="right")]
        decision = governor.decide(float(t), pair, StepStats(0.5, 0, 0.5, 4, 4))
    assert decision.action == "rest"
    assert decision.reason.startswith("right: 81.0 °C")


def test_a_device_of_several_that_is_never_read_is_missed() -> None:
    governor = Governor(GovernorSettings(limit=80))
    governor.expect(["left", "right"])
    decisions = [
        governor.decide(float(t), [still(float(t), 40, device="left")], StepStats(1, 0, 1, 4, 4)) for t in range(20)
    ]
    assert decisions[5].action == "run"
    assert decisions[-1].action == "rest"
    assert "right: no reading" in decisions[-1].reason


def test_a_rank_without_a_sensor_is_not_silent_beside_one_that_has_one() -> None:
    governor = Governor(GovernorSettings(limit=80))
    governor.expect([], others=["rank 0"])
    assert {governor.decide(float(t), [], StepStats(0.01, 0.1)).action for t in range(400)} == {"run"}


def test_a_sensor_that_never_answers_is_not_run_with_for_long() -> None:
    """There is no safe state to hold."""
    governor = Governor()
    actions = [governor.decide(float(t), [], StepStats(1, 0, 1, 4, 4)).action for t in range(400)]
    assert actions[0] == "run"
    assert set(actions[12:300]) == {"rest"}
    assert actions[-1] == "stop"


def test_a_memory_that_goes_silent_alone_is_missed() -> None:
    governor = Governor()
    decide_on(governor, [50.0] * 5, memory=60.0, memory_slowdown=105.0)
    late = [governor.decide(5.0 + t, [still(5.0 + t, 50.0)], StepStats(0.5, 0, 0.5, 4, 4)) for t in range(20)]
    assert "memory: no reading" in late[-1].reason


@pytest.mark.parametrize("ahead", [0.001, 5.0, 3600.0, 1e12, math.inf, math.nan])
@pytest.mark.parametrize("first", [0, 20])
def test_readings_from_the_future_are_as_silent_as_none(ahead: float, first: int) -> None:
    """A clock that is ahead, or was set back, must not make the last reading fresh for ever."""
    told, untold = Governor(GovernorSettings(limit=80)), Governor(GovernorSettings(limit=80))
    for governor in (told, untold):
        decide_on(governor, [50.0] * first)
    for t in map(float, range(first, first + 400)):
        assert told.decide(t, [still(t + ahead, 30.0)], STATS) == untold.decide(t, [], STATS)
    assert told.decide(400.0 + first, [], STATS).action == "stop"
    assert "no reading" in str(told.stopped)


def test_silence_stops_at_once_if_set_to() -> None:
    governor = Governor(GovernorSettings(when_silent="stop", hold=20))
    decide_on(governor, [40.0] * 15)
    assert governor.decide(43.0, [], StepStats(0.01, 1, 0.01, 4, 4)).action == "run"
    assert governor.decide(45.0, [], StepStats(0.01, 1, 0.01, 4, 4)).action == "stop"


@pytest.mark.parametrize("seconds", [3, 15])
def test_what_was_read_for_some_seconds_only_is_no_safe_state_to_hold(seconds: int) -> None:
    governor = Governor()
    decide_on(governor, [40.0] * seconds)
    late = [governor.decide(float(t), [], StepStats(0.01, 1, 0.01, 4, 4)).cause for t in range(seconds, 120)]
    changes = [after for before, after in pairwise(late) if before != after]
    assert changes == (["blind"] if seconds == 3 else ["held", "blind"])


def test_the_duty_of_other_ranks_devices_holds_here_and_their_temperatures_do_not() -> None:
    governor = Governor(GovernorSettings(limit=80))
    governor.expect(["a"], others=["b"])
    governor.others = {"b": Heat(temperature=90.0, excess=10.0, read_at=0.0, slope=2.0, duty=0.4)}
    decisions = decide_on(governor, [40.0] * 30, StepStats(0.4, 0.6), device="a")
    assert {(decision.action, decision.cause) for decision in decisions} == {("run", "hold")}
    assert governor.duty == 0.4
    assert governor.heats["a"].duty == pytest.approx(0.5)  # close to what counts
    governor.others = {}
    assert governor.duty == pytest.approx(0.5)


def test_rest_pays_for_work_at_the_duty_there_is() -> None:
    governor = Governor(GovernorSettings(limit=80, longest_rest=100))
    decide_on(governor, [60.0], StepStats(0, 0, 0, 4, 4))
    assert governor.duty == 0.5
    decision = governor.decide(0.5, [], StepStats(3.0, 0, 3.0, 4, 4))
    assert (decision.action, decision.rest_seconds) == ("rest", pytest.approx(3.0))
    assert governor.decide(3.5, [], StepStats(0, 3.0, 0, 4, 4)).action == "run"


def test_the_cause_changes_only_when_what_goes_on_does() -> None:
    decisions = run(Simulated(ambient=30, cooling=3), Governor(), 900.0).decisions
    causes = [decision.cause for decision in decisions]
    changes = sum(a != b for a, b in pairwise(causes))
    assert {"hold"} <= set(causes)
    assert changes < 30
    assert changes < len(decisions) / 50


def test_a_restored_governor_goes_on_with_what_it_learnt() -> None:
    options = {"ambient": 33.0, "cooling": 3.0, "clip_seconds": 0.3}
    plant, governor = Simulated(**options), Governor()
    run(plant, governor, 400.0)
    state, heat = governor.state_dict(), plant.state_dict()
    fresh, again = Governor(), Simulated(**options)
    fresh.load_state_dict(state)
    again.load_state_dict(heat)
    assert fresh.microbatch == governor.microbatch
    assert fresh.duty == governor.duty < 1
    assert fresh.heats[""].heating == governor.heats[""].heating
    course = run(again, fresh, 800.0)
    assert course.peak() <= 86
    assert course.swing(500.0) <= 2


def test_what_was_learnt_of_another_card_does_not_hold_this_one() -> None:
    """A memory that it does not tell of, and where the other slowed itself down."""
    old, governor = Governor(GovernorSettings(limit=95)), Governor(GovernorSettings(limit=95))
    hot: dict[str, Any] = {"memory": 104.0, "memory_slowdown": 105.0, "slowdown": 87.0, "throttle": (HARDWARE_HEAT,)}
    decide_on(old, [86.0] * 60, **hot)
    assert old.duty < 0.1
    governor.load_state_dict(old.state_dict())
    governor.expect([""])
    decisions = [
        governor.decide(t, [still(t, 40.0, slowdown=100.0)], StepStats(0.01, 1, 0.01, 4, 4))
        for t in map(float, range(90))
    ]
    assert governor.duty == 1
    assert "(limit 95.0 °C)" in decisions[-1].reason
    same = Governor(GovernorSettings(limit=95))
    same.load_state_dict(old.state_dict())
    assert "limit 82.0 °C, as" in same.decide(0.0, [still(0.0, 40.0, slowdown=87.0)], StepStats()).reason


def test_a_stop_is_not_remembered_for_resuming_is_a_new_attempt() -> None:
    governor = Governor(GovernorSettings(limit=80, patience=10))
    assert decide_on(governor, [82.0] * 20)[-1].action == "stop"
    fresh = Governor(GovernorSettings(limit=80, patience=10))
    fresh.load_state_dict(governor.state_dict())
    assert fresh.decide(500.0, [still(500.0, 40.0)], StepStats()).action != "stop"


@pytest.mark.parametrize(
    "bad",
    [
        {"margin": -1},
        {"limit": 200},
        {"limit": math.nan},
        {"memory_limit": 0},
        {"lowest_duty": 0},
        {"lowest_duty": 2},
        {"longest_rest": 0},
        {"silent_after": 0},
        {"patience": math.inf},
        {"when_silent": "guess"},
        {"margin": "five"},
        {"margin": 120},
        {"limit": "hot"},
        {"hold": None},
        {"grow_after": True},
        {"headroom": 90, "limit": 85},
        {"hysteresis": 1.5},
    ],
)
def test_values_out_of_range_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        GovernorSettings(**bad)


def test_the_configuration_names_every_option_with_its_default() -> None:
    named = OmegaConf.to_object(OmegaConf.load(CONF / "thermal" / "default.yaml").governor)
    assert named == asdict(GovernorSettings()) | {"_target_": "w2v_abx.thermal.GovernorSettings"}
