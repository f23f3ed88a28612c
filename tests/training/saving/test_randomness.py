"""The states of the random number generators, kept and put back."""

import json
import random

import numpy as np
import torch

from w2v_abx.training.saving import randomness

CPU = torch.device("cpu")


def draw() -> list[float]:
    normal = torch.randn(1)  # leaves a second number for the next call
    numbers = [np.random.rand(), np.random.randn()]  # noqa: NPY002
    return [random.random(), random.gauss(0, 1), *numbers, float(normal), *map(float, torch.rand(3))]


def test_what_is_drawn_is_drawn_again() -> None:
    for _ in range(2):
        draw()
        states = json.loads(json.dumps([randomness.written(randomness.take(CPU))]))
        first, second = draw(), draw()
        randomness.restore(states, 0, CPU)
        assert draw() == first
        assert draw() == second


def test_each_rank_has_its_own_and_a_new_one_another() -> None:
    states = []
    for seed in range(2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        states.append(randomness.written(randomness.take(CPU)))
    drawn = []
    for _ in range(2):
        for rank in range(4):
            randomness.restore(states, rank, CPU)
            drawn.append(draw())
    assert drawn[:4] == drawn[4:]
    assert len({value for values in drawn[:4] for value in values}) == 4 * len(drawn[0])


def test_taking_changes_nothing() -> None:
    torch.manual_seed(3)
    first = draw()
    torch.manual_seed(3)
    random_state = randomness.take(CPU)
    assert torch.equal(random_state["torch"], torch.get_rng_state())
    assert draw()[4:] == first[4:]
