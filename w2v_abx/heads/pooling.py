"""Pool the frames of a clip into one vector."""

from torch import Tensor

from w2v_abx.models.convolutions import valid_mask

__all__ = ["mean_over_frames"]


def mean_over_frames(hidden: Tensor, frames: Tensor) -> Tensor:
    """Average (B, F, D) over the first ``frames`` (B,) of each clip: (B, D)."""
    valid = valid_mask(frames, hidden.shape[1]).unsqueeze(-1)
    return (hidden * valid).sum(1) / frames[:, None]
