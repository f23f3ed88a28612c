"""The positional convolution by Fourier transforms is the convolution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from w2v_abx.models.cpu import convolve_positions


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 300),
    width=st.sampled_from([3, 7, 64, 65, 128]),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_values(batch: int, length: int, width: int, groups: int, bias: bool) -> None:
    torch.manual_seed(length)
    hidden, weight = torch.randn(batch, 8, length), torch.randn(4, 8 // groups, width)
    shift = torch.randn(4) if bias else None
    expected = functional.conv1d(hidden, weight, shift, padding=width // 2, groups=groups)
    torch.testing.assert_close(convolve_positions(hidden, weight, shift, groups), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 40, 129, 499])
def test_gradients(length: int) -> None:
    torch.manual_seed(0)
    given = [torch.randn(2, 8, length), torch.randn(8, 4, 128), torch.randn(8)]
    gradients = []
    for convolve in (
        lambda hidden, weight, bias: convolve_positions(hidden, weight, bias, 2),
        lambda hidden, weight, bias: functional.conv1d(hidden, weight, bias, padding=64, groups=2),
    ):
        inputs = [tensor.clone().requires_grad_() for tensor in given]
        convolve(*inputs).sin().sum().backward()
        gradients.append([tensor.grad for tensor in inputs])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_half_precision_is_worked_out_in_single() -> None:
    hidden, weight = torch.randn(1, 4, 50), torch.randn(4, 4, 64)
    low = convolve_positions(hidden.bfloat16(), weight, None, 1)
    assert low.dtype == torch.float32
    torch.testing.assert_close(
        low, functional.conv1d(hidden.bfloat16().float(), weight, padding=32), rtol=1e-3, atol=1e-3
    )
