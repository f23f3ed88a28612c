"""Weights of several heads' losses, against the formulas of their papers."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from w2v_abx.errors import InputError
from w2v_abx.heads.weighting import DynamicAverage, Fixed, Uncertainty, Weighting

NAMES = ["tones", "rain", "dogs"]
WEIGHTS = {"tones": 1.0, "rain": 0.3, "dogs": 2.0}


def begun(weighting: Weighting) -> Weighting:
    weighting.begin(NAMES, WEIGHTS)
    return weighting


def losses(*values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value, requires_grad=True) for name, value in zip(NAMES, values, strict=True)}


def test_fixed_weights_are_those_of_the_configs() -> None:
    given = losses(0.5, 2.0, 3.0)
    total = begun(Fixed()).combine(given, 1.0, NAMES)
    total.backward()
    assert total.item() == pytest.approx(0.5 + 0.3 * 2.0 + 2.0 * 3.0)
    assert {name: loss.grad.item() for name, loss in given.items() if loss.grad is not None} == pytest.approx(WEIGHTS)
    assert begun(Fixed()).current() == {}  # nothing changes, and nothing is logged


def test_weights_may_be_given_by_head_instead() -> None:
    given = losses(0.5, 2.0, 3.0)
    total = begun(Fixed({"tones": 0.65, "dogs": 0.35})).combine(given, 1.0, NAMES)
    total.backward()
    assert total.item() == pytest.approx(0.65 * 0.5 + 0.35 * 3.0)
    assert given["rain"].grad == 0  # as if it were not there
    with pytest.raises(InputError, match=r"weighting.weights=\['cats'\] must be a list of some of tones, rain, dogs"):
        begun(Fixed({"cats": 1.0}))
    with pytest.raises(InputError, match="weighting.weights.tones=-1 must be a number at least 0"):
        Fixed({"tones": -1})
    with pytest.raises(InputError, match="weighting.weights=.* must be weights of heads, one of them above 0"):
        Fixed({"tones": 0})


@pytest.mark.parametrize("shares", [[1.0], [0.25, 0.75], [0.5, 0.125, 0.375]])
def test_uncertainty_is_its_formula_in_any_micro_batches(shares: list[float]) -> None:
    """Value and gradients; a micro-batch need not hold clips of each head."""
    weighting = begun(Uncertainty())
    assert isinstance(weighting, Uncertainty)
    s = torch.tensor([0.7, -0.4, 0.1])
    weighting.log_variance.data.copy_(s)
    whole = losses(0.5, 2.0, 3.0)
    total = torch.zeros(())
    for number, share in enumerate(shares):
        parts = {name: share * loss for name, loss in whole.items() if name != "dogs"}
        if number == len(shares) - 1:
            parts["dogs"] = whole["dogs"]  # all of whose clips lie in the last
        total = total + weighting.combine(parts, share, NAMES)
    total.backward()
    weights = torch.tensor([WEIGHTS[name] for name in whole])
    values = torch.tensor([loss.item() for loss in whole.values()])
    assert total.item() == pytest.approx((weights * (torch.exp(-s) * values + s)).sum().item(), rel=1e-6)
    torch.testing.assert_close(weighting.log_variance.grad, weights * (1 - torch.exp(-s) * values))
    for place, (name, loss) in enumerate(whole.items()):
        assert loss.grad is not None
        assert loss.grad.item() == pytest.approx(math.exp(-s[place]) * WEIGHTS[name], rel=1e-6)
        assert weighting.current()[name] == pytest.approx(loss.grad.item(), rel=1e-6)


def test_uncertainty_of_a_head_without_a_loss_stays() -> None:
    weighting = begun(Uncertainty())
    assert isinstance(weighting, Uncertainty)
    some = {name: loss for name, loss in losses(0.5, 2.0, 3.0).items() if name != "rain"}
    weighting.combine(some, 1.0, list(some)).backward()
    gradient = weighting.log_variance.grad
    assert gradient is not None
    assert [value == 0 for value in gradient.tolist()] == [False, True, False]


def epochs(weighting: Weighting, means: list[tuple[float, ...]]) -> None:
    """Epochs of two steps, whose losses have these means."""
    for mean in means:
        for factor in (0.5, 1.5):
            weighting.step_end(losses(*(factor * value for value in mean)))
        weighting.epoch_end()


def expected(before: tuple[float, ...], last: tuple[float, ...], temperature: float) -> list[float]:
    """Equation 7 of Liu et al. (2019), times the weights of the configs."""
    powers = [math.exp(b / a / temperature) for a, b in zip(before, last, strict=True)]
    return [len(NAMES) * power / sum(powers) * WEIGHTS[name] for power, name in zip(powers, NAMES, strict=True)]


@pytest.mark.parametrize("temperature", [2.0, 0.5])
def test_dynamic_average_is_its_formula(temperature: float) -> None:
    weighting = begun(DynamicAverage(temperature))
    means = [(4.0, 2.0, 1.0), (3.0, 1.9, 1.2), (1.0, 1.8, 1.2)]
    assert list(weighting.current().values()) == pytest.approx(list(WEIGHTS.values()))  # two epochs weigh alike
    epochs(weighting, means[:1])
    assert list(weighting.current().values()) == pytest.approx(list(WEIGHTS.values()))
    for before, last in pairwise(means):
        epochs(weighting, [last])
        wanted = expected(before, last, temperature)
        assert list(weighting.current().values()) == pytest.approx(wanted, rel=1e-6)
        given = losses(0.5, 2.0, 3.0)
        total = weighting.combine(given, 0.25, NAMES)
        assert total.item() == pytest.approx(sum(w * v.item() for w, v in zip(wanted, given.values(), strict=True)))


def test_dynamic_average_goes_on_from_its_state() -> None:
    """Also inside an epoch."""
    whole, again = begun(DynamicAverage()), begun(DynamicAverage())
    epochs(whole, [(4.0, 2.0, 1.0), (3.0, 1.9, 1.2)])
    whole.step_end(losses(1.0, 1.0, 1.0))
    again.load_state_dict(whole.state_dict())
    assert again.current() == whole.current()
    for weighting in (whole, again):
        weighting.step_end(losses(2.0, 1.5, 1.0))
        weighting.epoch_end()
    assert list(again.current().values()) == pytest.approx(expected((3.0, 1.9, 1.2), (1.5, 1.25, 1.0), 2.0), rel=1e-6)
    assert again.current() == whole.current()


def test_a_head_without_a_loss_for_an_epoch_counts_as_one_whose_loss_stays() -> None:
    weighting = begun(DynamicAverage())
    epochs(weighting, [(4.0, 2.0, 1.0)])
    weighting.step_end({name: loss for name, loss in losses(2.0, 5.0, 1.0).items() if name != "rain"})
    weighting.epoch_end()
    wanted = expected((4.0, 1.0, 1.0), (2.0, 1.0, 1.0), 2.0)
    assert list(weighting.current().values()) == pytest.approx(wanted, rel=1e-6)


def test_a_temperature_out_of_range_is_named() -> None:
    with pytest.raises(InputError, match=r"weighting\.temperature=0"):
        DynamicAverage(0)


def test_a_micro_batch_without_labelled_clips_has_its_share_of_the_learnt_weights() -> None:
    whole, split = begun(Uncertainty()), begun(Uncertainty())
    assert isinstance(whole, Uncertainty)
    assert isinstance(split, Uncertainty)
    whole.combine(losses(0.5, 2.0, 3.0), 1.0, NAMES).backward()
    for parts, share in ((losses(0.5, 2.0, 3.0), 0.25), ({}, 0.75)):
        split.combine(parts, share, NAMES).backward()
    torch.testing.assert_close(split.log_variance.grad, whole.log_variance.grad)
    assert begun(Fixed()).combine({}, 1.0, NAMES) is None
