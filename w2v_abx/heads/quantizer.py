"""Quantise frames by a product quantiser with Gumbel softmax, and measure how evenly its codebooks are used."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.errors import InputError
from w2v_abx.system import checks

__all__ = [
    "GumbelTemperature",
    "Quantized",
    "Quantizer",
    "QuantizerSizes",
    "diversity",
    "gumbel_noise",
    "usage_sum",
]

MOST_SIZE = (1 << 15) - 1  # of a size
CONFIG_NAMES = {  # of the quantiser's sizes: their names in a config.json, and what they are where it does not say
    "groups": ("num_codevector_groups", 2),
    "entries": ("num_codevectors_per_group", 320),
    "codevector_dim": ("codevector_dim", 256),
    "projection_dim": ("proj_codevector_dim", 256),
}


@dataclass(frozen=True)
class QuantizerSizes:
    """Sizes of the quantiser and the projections; None: as the model's config.json says.

    Args:
        groups: codebooks.
        entries: vectors in each.
        codevector_dim: values of a quantised frame.
        projection_dim: values of what is compared.
    """

    groups: int | None = None
    entries: int | None = None
    codevector_dim: int | None = None
    projection_dim: int | None = None

    def of(self, config: Any, key: str) -> dict[str, int]:
        """Fill in what a model's configuration says. ``key`` is that of these settings, for errors."""
        sizes = {}
        for name, (theirs, usual) in CONFIG_NAMES.items():
            given = getattr(self, name)
            value = getattr(config, theirs, usual) if given is None else given
            sizes[name] = checks.whole(f"{key}.{name}", value, 1, MOST_SIZE)
        if sizes["codevector_dim"] % sizes["groups"]:
            raise InputError(
                f"{key}.codevector_dim={sizes['codevector_dim']} must be a multiple of {key}.groups={sizes['groups']}"
            )
        return sizes


@dataclass(frozen=True)
class GumbelTemperature:
    """The temperature of the Gumbel softmax at step n: ``start · decay ** n``, but at least ``floor``."""

    start: float = 2.0
    decay: float = 0.999995
    floor: float = 0.5

    def check(self, key: str) -> None:
        """Raise InputError for values out of range; ``key`` is that of these settings."""
        checks.number(f"{key}.start", self.start, above=0)
        checks.number(f"{key}.decay", self.decay, above=0, high=1)
        checks.number(f"{key}.floor", self.floor, above=0, high=self.start, hint=f"{key}.start={self.start}")

    def at(self, step: int) -> float:
        """Say what it is at a step."""
        return max(self.floor, self.start * self.decay ** max(0, step))


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
        """Convert frames ``(…, features)`` to float32 logits ``(…, G, V)``."""
        logits: Tensor = self.weight_proj(frames)
        return logits.float().unflatten(-1, (self.groups, self.entries))

    def forward(self, logits: Tensor, temperature: float | None = None, noise: Tensor | None = None) -> Quantized:
        """Choose the likeliest entries, or with Gumbel ``noise`` (of the logits' shape) drawn ones.

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
    """Draw standard Gumbel noise, a function of ``seed`` on one kind of device."""
    generator = torch.Generator(device).manual_seed(seed)
    exponential = torch.empty(shape, device=device).exponential_(generator=generator)
    # A draw of zero, one in millions, would make the noise infinite.
    return -exponential.clamp(min=torch.finfo(torch.float32).tiny).log()


def usage_sum(logits: Tensor, rated: Tensor) -> Tensor:
    """Sum softmax, and entries that are the likeliest, over ``rated`` frames (B, M) of (B, M, G, V): (B, 2, G, V)."""
    hard = functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    weights = rated.to(logits.dtype)
    return torch.stack([torch.einsum("bm,bmgv->bgv", weights, each) for each in (logits.softmax(-1), hard)], 1)


def diversity(usage: Tensor) -> tuple[Tensor, Tensor]:
    """Compute perplexity and diversity loss of codebooks used with probabilities ``usage`` (G, V).

    The perplexity is summed over the groups: the number of entries in use, at most G · V. The loss, (G · V -
    perplexity) / (G · V), is zero where all are used alike.
    """
    logarithm = usage.clamp(min=torch.finfo(usage.dtype).tiny).log()  # finite, as is its gradient, where none is used
    perplexity = torch.exp(-(usage * logarithm).sum(-1)).sum()
    return perplexity, 1 - perplexity / usage.numel()
