"""Draw what is random for the clips of a batch: masked frames, negatives, seeds of noise."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from w2v_abx.heads.masking import draw_mask

__all__ = ["Draws", "clip_seeds", "draw", "draw_negatives"]


class Draws(NamedTuple):
    """Of each clip: which frames are masked ``(B, F)``; the ``counts`` of those that are rated, which is all of them or
    none; their ``places`` ``(B, M)``, zero past the count; how many times each is a negative of each, ``(B, M, M)``
    int16 by (frame, negative); and a seed.
    """

    mask: Tensor
    counts: list[int]
    places: Tensor
    negatives: Tensor
    seeds: list[int]


def draw(
    keys: Sequence[str],
    frames: Tensor,
    seed: int,
    step: int,
    mask_time_prob: float,
    mask_time_length: int,
    num_negatives: int,
) -> Draws:
    """Draw for clips of ``frames`` frames ``(B,)``, each a function of seed, step and key; tensors are on the CPU.

    A clip with a single masked frame, which has no negatives, is not rated.
    """
    seeds = clip_seeds(keys, seed, step)
    generators = [torch.Generator().manual_seed(own) for own in seeds]
    mask = draw_mask(frames, mask_time_prob, mask_time_length, generators)
    masked = [row.nonzero()[:, 0] for row in mask]
    masked = [own if len(own) > 1 else own[:0] for own in masked]
    counts = [len(own) for own in masked]
    most = max([1, *counts])
    places = torch.zeros(len(keys), most, dtype=torch.int64)
    negatives = torch.zeros(len(keys), most, most, dtype=torch.int16)
    for row, (own, count, generator) in enumerate(zip(masked, counts, generators, strict=True)):
        places[row, :count] = own
        negatives[row, :count, :count] = draw_negatives(count, num_negatives, generator)
    return Draws(mask, counts, places, negatives, seeds)


def draw_negatives(frames: int, number: int, generator: torch.Generator) -> Tensor:
    """Draw how many times each of ``frames`` frames is a negative of each: ``(frames, frames)`` int16.

    Each has ``number`` of them, drawn with replacement from all the others.
    """
    times = torch.zeros(frames, frames, dtype=torch.int16)
    if frames > 1:
        others = torch.randint(frames - 1, (frames, number), generator=generator)
        others += others >= torch.arange(frames)[:, None]
        times.scatter_add_(1, others, torch.ones_like(others, dtype=torch.int16))
    return times


def clip_seeds(keys: Sequence[str], seed: int, step: int) -> list[int]:
    """Make a seed for each clip, whatever else its batch holds; a clip that comes several times has several."""
    seen: Counter[str] = Counter()
    seeds = []
    for key in keys:
        text = f"{seed}/{step}/{seen[key]}/{key}"
        seeds.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1)
        seen[key] += 1
    return seeds
