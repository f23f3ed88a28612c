"""Frames to entries of a learned codebook, and how evenly they use it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Quantized", "Quantizer", "diversity", "diversity_gradient", "gumbel_noise", "usage_sum"]


class Quantized(NamedTuple):
    """Code vectors ``(…, D)`` of frames, and the entry chosen in each group ``(…, G)``, int64."""

    vectors: Tensor
    codes: Tensor


class Quantizer(nn.Module):
    """Product quantisation by Gumbel softmax (Jegou et al., 2011; Jang et al., 2017), as wav2vec 2.0 does it.

    Each of ``groups`` codebooks has ``entries`` vectors of ``dim / groups`` values; a frame's vector is what is chosen
    from each, side by side. Parameters have Hugging Face's names and shapes, and their initial values its distribution.
    """

    def __init__(self, features: int, groups: int, entries: int, dim: int) -> None:
        super().__init__()
        self.groups, self.entries = groups, entries
        self.codevectors = nn.Parameter(torch.rand(1, groups * entries, dim // groups))
        self.weight_proj = nn.Linear(features, groups * entries)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)

    def logits(self, frames: Tensor) -> Tensor:
        """Frames ``(…, features)`` to float32 logits ``(…, G, V)``."""
        logits: Tensor = self.weight_proj(frames)
        return logits.float().unflatten(-1, (self.groups, self.entries))

    def forward(self, logits: Tensor, temperature: float | None = None, noise: Tensor | None = None) -> Quantized:
        """The likeliest entries, or with Gumbel ``noise`` (of the logits' shape) drawn ones.

        Drawn ones pass gradients as if the softmax at ``temperature`` had been taken in their place (straight through).
        """
        if noise is None or temperature is None:
            codes = logits.argmax(-1)
            weights = functional.one_hot(codes, self.entries).to(logits.dtype)
        else:
            soft = ((logits + noise) / temperature).softmax(-1)
            codes = soft.argmax(-1)
            weights = functional.one_hot(codes, self.entries) - soft.detach() + soft
        codebooks = self.codevectors.float().unflatten(1, (self.groups, self.entries))[0]
        return Quantized(torch.einsum("...gv,gvd->...gd", weights, codebooks).flatten(-2), codes)


def gumbel_noise(seed: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Standard Gumbel noise, a function of ``seed`` on one kind of device."""
    generator = torch.Generator(device).manual_seed(seed)
    exponential = torch.empty(shape, device=device).exponential_(generator=generator)
    # A draw of zero, one in millions, would make the noise infinite.
    return -exponential.clamp(min=torch.finfo(torch.float32).tiny).log()


def usage_sum(logits: Tensor, rated: Tensor) -> Tensor:
    """Softmax, and entries that are the likeliest, summed over ``rated`` frames ``(…)`` of ``(…, G, V)``: (2, G, V)."""
    entries = logits.shape[-1]
    hard = functional.one_hot(logits.argmax(-1), entries).to(logits.dtype)
    weights = rated.flatten().to(logits.dtype)
    frames = (logits.softmax(-1).reshape(len(weights), -1), hard.reshape(len(weights), -1))
    return torch.stack([(weights @ each).view(-1, entries) for each in frames])


def diversity(usage: Tensor) -> tuple[Tensor, Tensor]:
    """Perplexity and diversity loss of codebooks used with probabilities ``usage`` ``(G, V)``.

    The perplexity is summed over the groups: the number of entries in use, at most G · V. The loss, (G · V -
    perplexity) / (G · V), is zero where all are used alike.
    """
    perplexity = torch.exp(-torch.xlogy(usage, usage).sum(-1)).sum()
    return perplexity, 1 - perplexity / usage.numel()


def diversity_gradient(usage: Tensor) -> Tensor:
    """The gradient ``(G, V)`` of the diversity loss by the usage, but for a constant in each group.

    Probabilities sum to one, so that the constant has no part in what follows.
    """
    logarithm = usage.clamp(min=torch.finfo(usage.dtype).tiny).log()
    perplexity = torch.exp(-(usage * logarithm).sum(-1, keepdim=True))
    return perplexity * logarithm / usage.numel()
