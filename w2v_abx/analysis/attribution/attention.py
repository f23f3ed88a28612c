"""Follow attention from a layer's frames down to the first block's input."""

from collections.abc import Sequence

import torch
from torch import Tensor

from w2v_abx.models.encoder import Encoder

__all__ = ["attention", "roll_out"]


def attention(encoder: Encoder, samples: Tensor) -> list[Tensor]:
    """Compute the attention of each block to a clip (T,): (heads, F, F), whose rows sum to one."""
    found: list[Tensor] = []
    config = encoder.model.config
    fast = config._attn_implementation
    hooks = [
        block.attention.register_forward_hook(lambda _, __, output: found.append(output[1][0]))
        for block in encoder.model.encoder.layers
    ]
    config._attn_implementation = "eager"  # the others give no weights
    try:
        with torch.no_grad():
            encoder(samples[None], torch.tensor([len(samples)]), [encoder.n_layers - 1])
    finally:
        config._attn_implementation = fast
        for hook in hooks:
            hook.remove()
    return found


def roll_out(attentions: Sequence[Tensor]) -> list[Tensor]:
    """Follow attention (heads, F, F) down to the first block's input: (F, F) for each layer, the first the identity.

    Abnar and Zuidema (2020), "Quantifying attention flow in transformers": the mean over heads, and as much again for
    the residual connection.
    """
    same = torch.eye(attentions[0].shape[-1], dtype=torch.float64)
    rolled = [same]
    for weights in attentions:
        rolled.append((weights.double().mean(0) + same) / 2 @ rolled[-1])
    return rolled
