"""Attention with dropout of our own is that of PyTorch but for which probabilities it drops."""

import pytest
import torch
from torch.nn import functional

from w2v_abx.models.cpu import _attend, draw_seed, drop

MODULE = torch.nn.Identity()
MODULE.is_causal = False  # type: ignore[assignment]


def reference(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor | None, scale: float, p: float
) -> torch.Tensor:
    """Slow and obvious, dropping what the random state says."""
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * scale
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    chances = scores.softmax(-1)
    kept = drop(torch.ones_like(chances), p, draw_seed())
    return torch.einsum("bhqk,bhkd->bqhd", chances * kept, value)


@pytest.mark.parametrize("padded", [False, True])
def test_values_and_gradients(padded: bool) -> None:
    torch.manual_seed(0)
    shape, seen = (3, 4, 11, 8), None
    if padded:
        seen = (torch.arange(11) < torch.tensor([11, 7, 1])[:, None])[:, None, None]
    inputs = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    gradients, outputs = [], []
    for attend in (
        lambda *given: _attend(MODULE, *given, seen, dropout=0.25, scaling=0.3)[0],
        lambda *given: reference(*given, seen, 0.3, 0.25),
    ):
        torch.manual_seed(7)
        output = attend(*inputs)
        outputs.append(output)
        gradients.append(torch.autograd.grad(output.square().sum(), inputs))
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_without_dropout_it_is_pytorchs() -> None:
    query, key, value = torch.randn(3, 2, 4, 9, 8).unbind()
    ours, _ = _attend(MODULE, query, key, value, None, dropout=0.0, scaling=None)
    torch.testing.assert_close(ours, functional.scaled_dot_product_attention(query, key, value).transpose(1, 2))
