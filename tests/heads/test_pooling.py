"""Pooled frames, held against each clip by itself."""

import pytest
import torch

from w2v_abx.heads.pooling import Pooling

FRAMES = [7, 3, 1]


@pytest.mark.parametrize("kind", ["mean", "attentive", "statistics"])
def test_what_is_past_a_clips_end_does_not_count(kind: str) -> None:
    torch.manual_seed(0)
    pooling = Pooling(kind, 4)  # type: ignore[arg-type]
    hidden = torch.randn(3, 7, 4, requires_grad=True)
    found = pooling(hidden, torch.tensor(FRAMES))
    assert found.shape == (3, pooling.size)
    for row, count in enumerate(FRAMES):
        one = hidden[row, :count]
        if pooling.attention is not None:
            expected = (pooling.attention(one).softmax(0) * one).sum(0)
        elif kind == "statistics":
            deviation = one.var(0, correction=0).clamp(min=1e-7).sqrt()
            expected = torch.cat([one.mean(0), deviation])
        else:
            expected = one.mean(0)
        torch.testing.assert_close(found[row], expected)
    found.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()  # also of a clip of one frame, which has no deviation
    for row, count in enumerate(FRAMES):
        assert not hidden.grad[row, count:].any()
