"""Dropout on a CPU, where drawing PyTorch's masks takes longer than most layers of the model.

What is dropped follows from a seed and the place of a value, by a hash of 32 bits, so that no mask is kept for the
backward pass: it is worked out again. The probability is exact to 2^-32, as that of a mask of PyTorch's.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor, nn

from w2v_abx.system.machine import processors

__all__ = ["Dropout", "draw_seed", "drop", "replace_dropouts"]

PART = 1 << 18  # values for which a thread is worth its start


@njit(cache=True, nogil=True)
def _drop(values: Any, out: Any, first: Any, low: Any, high: Any, threshold: Any, scale: Any) -> None:
    """Half of the seed is stirred in before each of the hash's two rounds: after the first alone, the masks of some
    pairs of seeds would be alike. Shifts and factors are TheIronBorn's, found with C. Wellons' hash prospector
    (https://github.com/skeeto/hash-prospector/issues/19)."""
    for i in range(values.size):
        z = np.uint32(np.uint32(first + i) * np.uint32(0x9E3779B9)) ^ low
        z = np.uint32(np.uint32(z ^ (z >> np.uint32(16))) * np.uint32(0x21F0AAAD)) ^ high
        z = np.uint32(np.uint32(z ^ (z >> np.uint32(15))) * np.uint32(0x735A2D97))
        z = np.uint32(z ^ (z >> np.uint32(15)))
        out[i] = values[i] * scale if z >= threshold else np.float32(0)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(processors(), "dropout")


def draw_seed() -> int:
    """62 bits from PyTorch's random state, so that a run that goes on from a checkpoint drops what it would have."""
    return int(torch.randint(1 << 62, ()).item())


def drop(values: Tensor, p: float, seed: int, out: Tensor | None = None) -> Tensor:
    """``values`` (float32, contiguous, on the CPU), each zero with probability ``p`` and else divided by 1 - p.

    ``seed`` is a number of at most 64 bits; ``out`` may be ``values`` itself.
    """
    out = torch.empty_like(values) if out is None else out
    source: npt.NDArray[np.float32] = values.detach().view(-1).numpy()
    target: npt.NDArray[np.float32] = out.detach().view(-1).numpy()
    threshold, scale = np.uint32(round(p * 2**32)), np.float32(1 / (1 - p))
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    parts = max(1, min(torch.get_num_threads(), len(source) // PART))
    cuts = [len(source) * part // parts for part in range(parts + 1)]

    def work(part: int) -> None:
        first, last = cuts[part], cuts[part + 1]
        _drop(source[first:last], target[first:last], first, low, high, threshold, scale)

    others = [_pool().submit(work, part) for part in range(1, parts)]
    work(0)
    for other in others:
        other.result()
    return out


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        return drop(values.contiguous(), p, seed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return drop(gradient.contiguous(), ctx.p, ctx.seed), None, None


class Dropout(nn.Dropout):
    """As PyTorch's, and much faster for float32 on a CPU; what it drops there is another draw."""

    def forward(self, values: Tensor) -> Tensor:
        if not (self.training and 0 < self.p < 1 and values.device.type == "cpu" and values.dtype == torch.float32):
            return super().forward(values)
        dropped: Tensor = _Dropped.apply(values, self.p, draw_seed())
        return dropped


def replace_dropouts(model: nn.Module) -> None:
    """Put `Dropout` in the place of every dropout of PyTorch's."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                fast = Dropout(child.p, child.inplace)
                fast.train(child.training)
                setattr(module, name, fast)
