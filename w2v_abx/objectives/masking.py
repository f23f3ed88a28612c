"""Which frames of a clip are hidden."""

import torch
from torch import Tensor

__all__ = ["draw_mask", "draw_spans"]


def draw_mask(lengths: Tensor, share: float, span: int, generator: torch.Generator) -> Tensor:
    """Spans of masked frames ``(B, max(lengths))`` bool, on the CPU.

    Each clip starts ``share · length / span`` spans (at least one) at different frames; overlapping spans merge. A clip
    shorter than a span is masked from its start.
    """
    mask = torch.zeros(len(lengths), int(lengths.max()), dtype=torch.bool)
    for row, length in enumerate(lengths.tolist()):
        mask[row, :length] = draw_spans(length, max(1, round(share * length / span)), span, generator)
    return mask


def draw_spans(length: int, spans: int, span: int, generator: torch.Generator) -> Tensor:
    """``(length,)`` bool, on the CPU: true in ``spans`` stretches of ``span``, as far as there are different starts."""
    starts = max(1, length - span + 1)
    first = torch.randperm(starts, generator=generator)[:spans]
    mask = torch.zeros(length, dtype=torch.bool)
    mask[(first[:, None] + torch.arange(span)).flatten().clamp(max=length - 1)] = True
    return mask
