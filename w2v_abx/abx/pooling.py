"""Items pooled over time, which are then compared without alignment."""

from dataclasses import replace

import numpy as np
import torch

from w2v_abx.abx.frames import Frames
from w2v_abx.system.checks import choice

__all__ = ["check_pooling", "pool"]

POOLING = ("mean", "hamming")


def check_pooling(pooling: str | None) -> None:
    """Raise InputError unless ``pooling`` is None, "mean" or "hamming"."""
    choice("abx.pooling", pooling, POOLING, optional="to align items by DTW")


def pool(frames: Frames, how: str) -> Frames:
    """One frame an item: the mean of its frames, or their mean under a symmetric Hamming window, as in fastabx."""
    parts = []
    for part, counts in frames.parts():
        frames_of = part if part.is_cuda else part.cpu()  # other accelerators may have no double precision
        lengths = torch.from_numpy(counts)
        weights = _weights(lengths, how).to(frames_of.device)
        # In double precision, item by item and in the order of their frames: equal items stay equal.
        total = torch.segment_reduce(frames_of.double() * weights[:, None], "sum", lengths=lengths.to(weights.device))
        parts.append(total.float().to(part.device))
    pooled, items = torch.cat(parts), np.arange(len(frames.rows))
    file = pooled.numpy() if frames.device is None else pooled
    return replace(frames, files=[file], ends=np.array([0, len(items)]), starts=items, lengths=np.ones_like(items))


def _weights(lengths: torch.Tensor, how: str) -> torch.Tensor:
    """The weight of each frame of items of these lengths; those of an item sum to one."""
    if how == "mean":
        return (1.0 / lengths.double()).repeat_interleave(lengths)
    windows = {n: torch.hamming_window(n, periodic=False, dtype=torch.float64) for n in set(lengths.tolist())}
    return torch.cat([windows[n] / windows[n].sum() for n in lengths.tolist()])
