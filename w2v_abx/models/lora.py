"""LoRA on the transformer blocks: low-rank updates train, the weights themselves stay as they were.

Hu et al. (2022), LoRA: low-rank adaptation of large language models.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from w2v_abx.errors import InputError
from w2v_abx.system import checks

__all__ = ["TARGETS", "Lora", "has_lora", "inject", "is_lora", "merged"]

TARGETS = {  # Hugging Face's names, the same in the three families
    "q_proj": "attention",
    "k_proj": "attention",
    "v_proj": "attention",
    "out_proj": "attention",
    "intermediate_dense": "feed_forward",
    "output_dense": "feed_forward",
}


@dataclass(frozen=True)
class Lora:
    """How a weight W of a block is adapted: W + alpha / rank · B A, with B zero at the start.

    Args:
        rank: of the update B A.
        alpha: scales the update.
        dropout: probability of an update not seeing a value of its input.
        targets: which linear maps of each block: ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj`` of attention,
            ``intermediate_dense`` and ``output_dense`` of the feed-forward part.
        seed: of A at the start.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Sequence[str] = ("q_proj", "v_proj")
    seed: int = 0

    def __post_init__(self) -> None:
        checks.whole("model.lora.rank", self.rank, 1)
        checks.number("model.lora.alpha", self.alpha, above=0)
        checks.number("model.lora.dropout", self.dropout, low=0, below=1)
        unknown = [name for name in self.targets if name not in TARGETS]
        if isinstance(self.targets, str) or unknown or not self.targets:
            raise InputError(
                f"model.lora.targets={self.targets if isinstance(self.targets, str) else list(self.targets)} must be "
                f"a list of at least one of {', '.join(TARGETS)}"
            )


class ModularAttention(WavLMAttention):
    """WavLM's attention with its projections called as modules, which adapters on them need.

    Transformers hands their bare weights to torch, so that an adapter around them would neither act nor learn.
    """

    def torch_multi_head_self_attention(
        self, hidden_states: Tensor, attention_mask: Tensor | None, gated_position_bias: Tensor
    ) -> tuple[Tensor, Any]:
        """Attention of frames (B, F, D) under a bias (B · heads, F, F); True in the mask (B, F) is a valid frame."""
        heads = (self.num_heads, self.head_dim)
        query, key, value = (
            project(hidden_states).unflatten(-1, heads).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias = gated_position_bias.unflatten(0, (-1, self.num_heads)).to(query.dtype)
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask[:, None, None], -math.inf)
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def inject(model: PreTrainedModel, lora: Lora) -> None:
    """Put adapters on the blocks of ``model``. What comes out of it does not change; what trains is the caller's.

    Raises:
        InputError: a rank above what a weight can have.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds to import

    largest = min(model.config.hidden_size, model.config.intermediate_size)
    if lora.rank > largest:
        raise InputError(f"model.lora.rank={lora.rank} is more than {largest}, the rank of this model's own weights")
    names = "|".join(f"{TARGETS[name]}.{name}" for name in lora.targets)
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=lora.dropout,
        target_modules=rf"encoder\.layers\.\d+\.({names})",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lora.seed)
        inject_adapter_in_model(settings, model)
    for part in model.modules():
        if type(part) is WavLMAttention:
            part.__class__ = ModularAttention


def is_lora(name: str) -> bool:
    """Whether a parameter's name is that of an adapter."""
    return ".lora_" in name


def has_lora(model: nn.Module) -> bool:
    """Whether adapters have been put on ``model``."""
    return any(is_lora(name) for name, _ in model.named_parameters())


def merged(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model as they would be without adapters that change them; ``model`` stays as it is."""
    weights: dict[str, Any] = {
        name.replace(".base_layer.", "."): value for name, value in model.state_dict().items() if not is_lora(name)
    }
    for place, part in model.named_modules():
        if hasattr(part, "get_delta_weight"):
            weight = weights[f"{place}.weight"]
            weights[f"{place}.weight"] = weight + part.get_delta_weight("default").to(weight.dtype)
    return weights
