import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.errors import InputError
from w2v_abx.training.schedules import Schedule, warmup_steps

STEPS = st.integers(1, 300)
SHARES = st.floats(0.0, 0.99)


def linear(steps: int, warmup: int) -> list[float]:
    """One number at a time: up by equal parts to one, then down by equal parts to zero."""
    rates = [0.0]
    while len(rates) <= warmup:
        rates.append(rates[-1] + 1 / (warmup + 1))
    up = rates[1:]
    return up + [1 - n / (steps - warmup) for n in range(steps - warmup)]


def cosine(steps: int, warmup: int, final: float) -> list[float]:
    turns = [math.pi * n / (steps - warmup) for n in range(steps - warmup)]
    return linear(steps, warmup)[:warmup] + [final + (1 - final) * 0.5 * (1 + math.cos(turn)) for turn in turns]


def tri_stage(steps: int, warmup: int, hold: int, initial: float, final: float) -> list[float]:
    """As fairseq has it: a rate that grows by a constant, a constant rate, a rate that shrinks by a factor."""
    decay = steps - warmup - hold
    rates: list[float] = []
    rate = initial
    for _ in range(warmup):
        rates.append(rate)
        rate += (1.0 - initial) / warmup
    rates += [1.0] * hold
    rate = 1.0
    for _ in range(decay):
        rates.append(rate)
        rate *= math.exp(math.log(final) / decay)
    return rates


def rates(schedule: Schedule, steps: int, warmup: int) -> list[float]:
    return [schedule.factor(step, warmup, steps) for step in range(steps)]


@given(steps=STEPS, share=SHARES)
def test_linear(steps: int, share: float) -> None:
    warmup = warmup_steps(share, steps)
    assert rates(Schedule(), steps, warmup) == pytest.approx(linear(steps, warmup))
    assert Schedule().factor(steps, warmup, steps) == 0.0


@given(steps=STEPS, share=SHARES, final=st.floats(0.0, 1.0))
def test_cosine(steps: int, share: float, final: float) -> None:
    warmup = warmup_steps(share, steps)
    assert rates(Schedule("cosine", final_scale=final), steps, warmup) == pytest.approx(cosine(steps, warmup, final))
    assert Schedule("cosine", final_scale=final).factor(steps, warmup, steps) == pytest.approx(final)


@given(steps=STEPS, share=SHARES)
def test_constant(steps: int, share: float) -> None:
    warmup = warmup_steps(share, steps)
    assert rates(Schedule(final_scale=1.0), steps, warmup) == pytest.approx(
        linear(steps, warmup)[:warmup] + [1.0] * (steps - warmup)
    )


@given(
    steps=STEPS,
    warm=st.floats(0.0, 0.6),
    hold=st.floats(0.0, 0.4),
    initial=st.floats(0.0, 1.0),
    final=st.floats(0.01, 1.0),
)
def test_tri_stage(steps: int, warm: float, hold: float, initial: float, final: float) -> None:
    warmup = warmup_steps(warm, steps)
    schedule = Schedule("exponential", hold, initial, final)
    expected = tri_stage(steps, warmup, round(hold * steps), initial, final)
    assert rates(schedule, steps, warmup) == pytest.approx(expected[:steps])
    assert schedule.factor(steps, warmup, steps) == pytest.approx(final)


def test_some_step_is_left_after_the_warmup() -> None:
    assert [warmup_steps(share, 10) for share in (0.0, 0.1, 0.26, 0.94, 0.96, 0.99)] == [0, 1, 3, 9, 9, 9]
    assert [warmup_steps(0.9, steps) for steps in (1, 2, 3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "schedule", [Schedule(), Schedule("cosine"), Schedule(final_scale=1.0), Schedule("exponential", 0.5, 0.01, 0.05)]
)
def test_the_first_step_moves_and_the_peak_is_reached(schedule: Schedule) -> None:
    for warmup in (0, 1, 7):
        found = rates(schedule, 40, warmup)
        assert found[0] > 0
        assert max(found) == found[warmup] == 1.0


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Schedule("cosine", final_scale=1.5), "optimizer.schedule.final_scale=1.5"),
        (lambda: Schedule("step"), "optimizer.schedule.decay='step' must be one of linear, cosine, exponential"),  # type: ignore[arg-type]
        (lambda: Schedule(hold_share=-0.1), "optimizer.schedule.hold_share=-0.1"),
        (lambda: Schedule(initial_scale=2.0), "optimizer.schedule.initial_scale=2.0"),
        (lambda: Schedule("exponential"), "optimizer.schedule.final_scale=0.0"),
    ],
)
def test_values_out_of_range_are_refused(made: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        made()  # type: ignore[operator]
    assert message in str(refused.value)
