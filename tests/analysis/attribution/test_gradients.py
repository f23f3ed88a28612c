"""Integrated gradients, attention roll-out and the spectrum that attributions are spread over."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speaking import SOURCE
from transformers import AutoConfig, AutoModel

from w2v_abx.analysis.attribution.attention import attention, roll_out
from w2v_abx.analysis.attribution.gradients import Attribution, integrated_gradients, without_normalization
from w2v_abx.analysis.attribution.spectrum import bands, levels, spread
from w2v_abx.models.encoder import Encoder


def samples(count: int = 3200, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_of_a_linear_score_they_are_weight_times_change() -> None:
    weight, start, end = samples(50, 1), samples(50, 2), samples(50, 3)
    found = integrated_gradients(lambda x: x @ weight + 4, start, end, steps=1)
    torch.testing.assert_close(found.values, (weight * (end - start)).double())
    assert found.gap == pytest.approx(0, abs=1e-5)
    assert found.end - found.start == pytest.approx(float(weight @ (end - start)), abs=1e-4)


def test_of_a_product_they_are_those_worked_out_by_hand() -> None:
    # f = x y from (0, 0) to (2, 3): each has half of 6. From (1, 0): 1.5 + 1.5 x and so on, see the integral.
    product = lambda x: x[:, 0] * x[:, 1]  # noqa: E731
    found = integrated_gradients(product, torch.zeros(2), torch.tensor([2.0, 3.0]), steps=1)
    torch.testing.assert_close(found.values, torch.tensor([3.0, 3.0], dtype=torch.float64))
    found = integrated_gradients(product, torch.tensor([1.0, 0.0]), torch.tensor([2.0, 3.0]), steps=1)
    torch.testing.assert_close(found.values, torch.tensor([1.5, 4.5], dtype=torch.float64))


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(1, 20))
def test_steps_at_once_change_nothing(steps: int, together: int) -> None:
    score = lambda x: x.pow(3).sum(1).tanh()  # noqa: E731
    start, end = samples(5, 1) / 3, samples(5, 2) / 3
    one, other = (integrated_gradients(score, start, end, steps, count) for count in (1, together))
    torch.testing.assert_close(one.gradient, other.gradient)


def test_they_are_complete_on_an_encoder() -> None:
    encoder = Encoder.random(SOURCE).requires_grad_(False)
    weight = samples(16, 5)

    def score(x: torch.Tensor) -> torch.Tensor:
        (hidden,), _ = encoder(x, torch.full((len(x),), x.shape[1]), [2])
        return hidden.mean(1) @ weight

    with without_normalization(encoder):
        found = integrated_gradients(score, samples(seed=1), samples(seed=2), 32)
    assert encoder.normalized
    assert found.gap < 1e-3 * abs(found.end - found.start)
    assert found.gap < integrated_gradients(score, samples(seed=1), samples(seed=2), 1).gap


def test_bands_sum_to_what_the_samples_add() -> None:
    found = Attribution(samples(3210, 1).double(), samples(3210, 2).double(), 0, 0)
    spread_ = spread(found)
    assert spread_.shape == (3210 // 160 + 1, len(bands()) - 1)
    assert float(spread_.sum()) == pytest.approx(float(found.values.sum()))
    # What adds something at one time adds it there.
    change = torch.zeros(3200, dtype=torch.float64)
    change[1600:1700] = 1
    there = spread(Attribution(torch.ones(3200, dtype=torch.float64), change, 0, 0)).sum(1)
    assert float(there[8:13].sum()) == pytest.approx(100)


def test_a_tone_is_loud_in_its_band() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(3200) / 16000)
    found = levels(tone)
    (band,) = set(found[2:-2].argmax(1).tolist())
    assert bands()[band] <= 1000 < bands()[band + 1]
    assert float(found.max()) == pytest.approx(0, abs=1e-6)


def test_each_band_has_a_line() -> None:
    assert np.all(np.diff(bands()) > 0)
    assert bool((levels(samples()) > -60).all())


def test_roll_out_of_even_attention_by_hand() -> None:
    even = torch.full((3, 4, 4), 0.25)
    first, second, third = roll_out([even, even])
    torch.testing.assert_close(first, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(second, (torch.eye(4) / 2 + 0.125).double())
    torch.testing.assert_close(third, (torch.eye(4) / 4 + 0.1875).double())


def test_roll_out_goes_down_through_the_blocks() -> None:
    """The frame that the last block looks at, and then the one that the first looks at from there."""
    first, last = torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)
    first[0, :, 2] = last[0, :, 1] = 1
    torch.testing.assert_close(roll_out([first, last])[-1][0], torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_attention_is_what_transformers_gives(family: str) -> None:
    source: dict[str, Any] = {**SOURCE, "model_type": family}
    encoder = Encoder.random(source)
    encoder.normalized = False
    found = attention(encoder, samples())
    reference = AutoModel.from_config(AutoConfig.for_model(**source), attn_implementation="eager").eval()
    reference.load_state_dict(encoder.model.state_dict())
    with torch.no_grad():
        expected = reference(samples()[None], output_attentions=True).attentions
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.sum(-1), torch.ones_like(one.sum(-1)))
    before = encoder(samples()[None], torch.tensor([3200])).layers[-1]
    attention(encoder, samples())
    torch.testing.assert_close(encoder(samples()[None], torch.tensor([3200])).layers[-1], before)
