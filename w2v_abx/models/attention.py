"""Attention with dropout on a CPU, for which PyTorch has no kernel of its own.

Its fallback keeps the attention probabilities, their mask and their product for the backward pass; here the
probabilities alone are kept. The mathematics is that of ``scaled_dot_product_attention``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from w2v_abx.models.dropout import draw_seed, drop

__all__ = ["NAME"]

NAME = "w2v_abx"  # under which transformers' models find it


class _Attention(torch.autograd.Function):
    """Queries, keys and values (B, H, F, D) to (B, H, F, D); ``seen`` is a boolean mask that broadcasts, or None."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float, p: float, seed: int
    ) -> Tensor:
        scores = (query * scale) @ key.mT
        if seen is not None:
            scores.masked_fill_(~seen, -torch.inf)
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


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
