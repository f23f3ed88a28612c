"""Pool the frames of a clip into one vector."""

from typing import Literal

import torch
from torch import Tensor, nn

from w2v_abx.models.convolutions import valid_mask

__all__ = ["Kind", "Pooling", "mean_over_frames"]

Kind = Literal["mean", "attentive", "statistics"]
LEAST_VARIANCE = 1e-7  # below which the root's gradient is cut off: that of a constant channel has none


def mean_over_frames(hidden: Tensor, frames: Tensor) -> Tensor:
    """Average (B, F, D) over the first ``frames`` (B,) of each clip: (B, D)."""
    valid = valid_mask(frames, hidden.shape[1]).unsqueeze(-1)
    return (hidden * valid).sum(1) / frames[:, None]


class Pooling(nn.Module):
    """Make (B, ``size``) of hidden states (B, F, D) and frame counts (B,): what is past a clip's end does not count.

    Args:
        kind: mean; attentive: a mean with weights that one learnt direction gives (Safari et al., 2020, Self-attention
            encoding and pooling for speaker recognition); statistics: mean and standard deviation (Snyder et al., 2018,
            X-vectors), 2 · D values.
        dim: D.
    """

    def __init__(self, kind: Kind, dim: int) -> None:
        super().__init__()
        self.kind = kind
        self.size = 2 * dim if kind == "statistics" else dim
        self.attention = nn.Linear(dim, 1) if kind == "attentive" else None

    def forward(self, hidden: Tensor, frames: Tensor) -> Tensor:
        if self.attention is not None:
            valid = valid_mask(frames, hidden.shape[1])
            rated = self.attention(hidden)[..., 0].masked_fill(~valid, -torch.inf)
            return torch.einsum("bf,bfd->bd", rated.softmax(1), hidden)
        mean = mean_over_frames(hidden, frames)
        if self.kind == "mean":
            return mean
        variance = mean_over_frames((hidden - mean[:, None]).square(), frames)
        return torch.cat([mean, variance.clamp(min=LEAST_VARIANCE).sqrt()], 1)
