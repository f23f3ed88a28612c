"""How large a model a config.json describes: known before anything of it is built."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from transformers import Wav2Vec2Config

from w2v_abx.system.records import Checked, Range

__all__ = ["MAX_PARAMETERS", "Sizes"]

MAX_PARAMETERS = 10_000_000_000  # five times those of the largest wav2vec 2.0, XLS-R 2B
MAX_CONVOLUTIONS = 100
Size = Annotated[int, Range(1, 1 << 20)]
Blocks = Annotated[int, Range(1, 1000)]  # each takes time to build, however small
Layers = Annotated[int, Range(0, 100)]


@dataclass(frozen=True)
class Sizes(Checked):
    """What in a config.json multiplies; raises `ValueError`, naming it, for what no model has.

    ``adapter`` and ``buckets``: ``adapter_attn_dim`` and ``num_buckets``, zero where a family has none.
    """

    hidden_size: Size
    num_hidden_layers: Blocks
    num_attention_heads: Size
    intermediate_size: Size
    conv_dim: tuple[Size, ...]
    conv_kernel: tuple[Size, ...]
    conv_stride: tuple[Size, ...]
    num_conv_pos_embeddings: Size
    num_conv_pos_embedding_groups: Size
    num_adapter_layers: Layers
    adapter_kernel_size: Size
    output_hidden_size: Size
    vocab_size: Size
    num_codevectors_per_group: Size
    num_codevector_groups: Size
    codevector_dim: Size
    proj_codevector_dim: Size
    adapter: Annotated[int, Range(0, 1 << 20)]
    buckets: Annotated[int, Range(0, 1 << 20)]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) <= MAX_CONVOLUTIONS:
            raise ValueError("conv_dim, conv_kernel and conv_stride must be of one length, up to a hundred")
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(f"{self.parameters} parameters are more than the {MAX_PARAMETERS} that a model may have")

    @classmethod
    def of(cls, config: Any) -> "Sizes":
        """Those of a configuration of transformers."""
        settings = {**Wav2Vec2Config().to_dict(), **config.to_dict()}  # HuBERT has no adapters, and no codebooks
        return cls.made_of(
            settings,
            num_adapter_layers=settings["num_adapter_layers"] if settings["add_adapter"] else 0,
            adapter=settings["adapter_attn_dim"] or 0,
            buckets=settings.get("num_buckets", 0),
        )

    @property
    def encoder(self) -> int:
        """Parameters of the encoder, but for biases, norms and adapters."""
        layers = zip(pairwise((1, *self.conv_dim)), self.conv_kernel, strict=False)
        convolutions = sum(before * after * kernel for (before, after), kernel in layers)
        positions = self.hidden_size**2 // self.num_conv_pos_embedding_groups * self.num_conv_pos_embeddings
        block = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        return convolutions + self.conv_dim[-1] * self.hidden_size + positions + self.num_hidden_layers * block

    @property
    def parameters(self) -> int:
        """Those of the encoder, of adapters, of a CTC head and of codebooks together."""
        adapters = 2 * self.output_hidden_size**2 * self.adapter_kernel_size * self.num_adapter_layers
        adapters += 2 * self.hidden_size * self.adapter * self.num_hidden_layers
        codebooks = (self.num_codevectors_per_group + self.proj_codevector_dim) * self.codevector_dim
        codebooks += self.num_codevectors_per_group * self.num_codevector_groups * self.conv_dim[-1]
        heads = self.hidden_size * (self.vocab_size + self.output_hidden_size) + self.buckets * self.num_attention_heads
        return self.encoder + adapters + codebooks + heads
