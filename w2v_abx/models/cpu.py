"""What makes training on a CPU fast: dropout, attention with dropout, and the positional convolution.

Measured with wav2vec 2.0 base on two cores, over steps forward and backward of four clips of 10 s with its default
dropouts: PyTorch's own dropout takes 12 to 22 % more processor time, its attention 9 to 36 %, its convolution 10 to
12 %, and all three together 29 to 44 %. `use_cpu_kernels` switches the first two on; the encoder calls the third. On
another device, and the first two but for float32, all is PyTorch's.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from w2v_abx.system.machine import processors

__all__ = ["ATTENTION", "Dropout", "convolve_positions", "draw_seed", "drop", "use_cpu_kernels"]

ATTENTION = "w2v_abx"  # under which transformers' models find it
VALUES_PER_THREAD = 1 << 18  # for which a thread is worth its start


def use_cpu_kernels(model: PreTrainedModel) -> None:
    """Put our attention in the place of ``sdpa``, and `Dropout` in that of every dropout of PyTorch's."""
    if model.config._attn_implementation == "sdpa":
        model.config._attn_implementation = ATTENTION
    replace_dropouts(model)


def replace_dropouts(model: nn.Module) -> None:
    """Put `Dropout` in the place of every dropout of PyTorch's."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                fast = Dropout(child.p, child.inplace)
                fast.train(child.training)
                setattr(module, name, fast)


# Dropout. Drawing PyTorch's masks takes longer than most layers. What is dropped follows from a seed and the place of a
# value, by a hash of 32 bits, so that no mask is stored for the backward pass: it is computed again. The probability is
# exact to 2^-32, as that of a mask of PyTorch's.


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
    parts = max(1, min(torch.get_num_threads(), len(source) // VALUES_PER_THREAD))
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


# Attention. PyTorch's fallback stores the probabilities, their mask and their product for the backward pass; here the
# probabilities alone are stored. The mathematics is that of `scaled_dot_product_attention`.


class _Attention(torch.autograd.Function):
    """Queries, keys and values (B, H, F, D) to (B, H, F, D); ``visible`` is a boolean mask that broadcasts, or None."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float, p: float, seed: int
    ) -> Tensor:
        scores = (query * scale) @ key.mT
        if visible is not None:
            scores.masked_fill_(~visible, -torch.inf)
        chances = scores.softmax(-1)
        ctx.save_for_backward(query, key, value, chances)
        ctx.scale, ctx.p, ctx.seed = scale, p, seed
        return drop(chances, p, seed, out=scores) @ value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        query, key, value, chances = ctx.saved_tensors
        to_value = drop(chances, ctx.p, ctx.seed).mT @ gradient
        to_chances = gradient @ value.mT
        drop(to_chances, ctx.p, ctx.seed, out=to_chances)
        to_scores = torch._softmax_backward_data(to_chances, chances, -1, chances.dtype)
        to_scores *= ctx.scale
        return to_scores @ key, to_scores.mT @ query, to_value, None, None, None, None


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """As transformers wants it: (B, F, H, D) of (B, H, F, D), and no probabilities."""
    plain = query.device.type != "cpu" or query.dtype != torch.float32
    if not 0 < dropout < 1 or plain or (attention_mask is not None and attention_mask.dtype != torch.bool):
        attended: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return attended
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output: Tensor = _Attention.apply(query, key, value, attention_mask, scale, dropout, draw_seed())
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


# Positions. The kernels are 128 frames wide.


def convolve_positions(hidden: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """``conv1d`` of (B, C, L) with ``weight`` (C', C / groups, K) and a padding of K // 2, to (B, C', L'), float32.

    The sequence is cut into blocks whose windows a transform of length 2 K holds (overlap-save).
    """
    batch, _, length = hidden.shape
    width = weight.shape[-1]
    size = 2 * width
    step = size - width + 1
    total = length + 2 * (width // 2) - width + 1
    blocks = -(-total // step)
    padded = F.pad(hidden.float(), (width // 2, blocks * step + width - 1 - length - width // 2))
    windows = torch.fft.rfft(padded.unfold(2, size, step))  # (B, C, blocks, frequencies)
    kernels = torch.fft.rfft(weight.float(), size).conj()  # of a correlation
    frequencies = windows.shape[-1]
    windows = windows.view(batch, groups, -1, blocks, frequencies).permute(1, 4, 0, 3, 2)
    kernels = kernels.view(groups, -1, weight.shape[1], frequencies).permute(0, 3, 2, 1)
    product = windows.reshape(groups, frequencies, batch * blocks, -1) @ kernels
    product = product.view(groups, frequencies, batch, blocks, -1).permute(2, 0, 4, 3, 1)
    output = torch.fft.irfft(product, size)[..., :step].reshape(batch, -1, blocks * step)[..., :total]
    return output if bias is None else output + bias.float()[:, None]
