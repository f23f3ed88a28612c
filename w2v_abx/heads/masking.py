"""Which frames of a clip are hidden."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["draw_mask", "draw_spans"]


def draw_mask(lengths: Tensor, share: float, span: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Spans of masked frames ``(B, max(lengths))`` bool, on the CPU, each clip's from a generator of its own.

    Each clip starts ``share · length / span`` spans (at least one) at different frames; overlapping spans merge. A clip
    shorter than a span is masked from its start.
    """
    frames: list[int] = lengths.tolist()
    mask = torch.zeros(len(frames), max(frames, default=0), dtype=torch.bool)
    for row, length, generator in zip(mask, frames, generators, strict=True):
        if length:
            row[:length] = draw_spans(length, max(1, round(share * length / span)), span, generator)
    return mask


def draw_spans(length: int, spans: int, span: int, generator: torch.Generator) -> Tensor:
    """``(length,)`` bool, on the CPU: true in ``spans`` stretches of ``span``, as far as there are different starts."""
    starts = max(1, length - span + 1)
    first = torch.randperm(starts, generator=generator)[:spans]
    mask = torch.zeros(length, dtype=torch.bool)
    mask[(first[:, None] + torch.arange(span)).flatten().clamp(max=length - 1)] = True
    return mask
