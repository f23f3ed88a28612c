"""wav2vec 2.0, HuBERT and WavLM behind one interface whose features do not depend on padding."""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.errors import InputError
from w2v_abx.models import checkpoints
from w2v_abx.models.convolutions import convolve, frame_count, normalize, receptive_field, valid_mask
from w2v_abx.models.cpu import ATTENTION, convolve_positions, use_cpu_kernels
from w2v_abx.models.lora import Lora, has_lora, inject, is_lora, merged

__all__ = ["Encoder", "Features"]


WIDE_KERNEL = 64  # frames of a convolution from which Fourier transforms are faster on a CPU


class Features(NamedTuple):
    """Hidden states of the asked layers, each (B, F, D), zero past each clip's end; frame counts (B,), int64."""

    layers: tuple[Tensor, ...]
    lengths: Tensor


class Encoder(nn.Module):
    """A wav2vec 2.0 (Baevski et al., 2020), HuBERT (Hsu et al., 2021) or WavLM (Chen et al., 2022) model.

    Layers are numbered as Hugging Face's ``hidden_states``: 0 is what enters the first transformer block (projected
    convolutions plus positional convolution), n is what leaves the n-th block.

    A clip gives the same features alone or padded in any batch: its waveform is normalised over its own samples, the
    group norm over its own frames, and neither the positional convolution nor attention sees a padded frame.

    ``n_layers`` counts layer 0 and the blocks, ``dim`` is the values per frame, ``frequency`` the frames per second and
    ``receptive_field`` the samples under one frame, hence the shortest clip that has one.

    Like ``from_pretrained``, ``load`` and ``random`` return it in evaluation mode: call ``train()`` before training.
    Parts without a trainable parameter stay in evaluation mode even then (no dropout, no layer drop).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        normalized: bool = True,
        train: str = "all",
        lora: Lora | None = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,
    ) -> None:
        """Wrap ``model``, a base model of one of the three families.

        ``normalized``: clips are brought to zero mean and unit variance first (``do_normalize`` of the checkpoint's
        preprocessor). ``train``, ``lora``: see ``trainable``. ``gradient_checkpointing``: blocks recompute in the
        backward pass. ``compile``: by `torch.compile`, the transformer blocks, each when it first runs.
        """
        super().__init__()
        self.model: Any = model
        self.normalized = normalized
        self.gradient_checkpointing = gradient_checkpointing
        config = model.config
        use_cpu_kernels(model)
        self.n_layers: int = config.num_hidden_layers + 1
        self.dim: int = config.hidden_size
        self.frequency: float = SAMPLE_RATE / prod(config.conv_stride)
        self.receptive_field = receptive_field(config.conv_kernel, config.conv_stride)
        self.trainable(train, lora)
        if compile:
            self._compile()
        self.eval()

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        dropout: float | None = None,
        layer_drop: float | None = None,
        **options: Any,
    ) -> Self:
        """The pretrained model in the folder ``source`` (Hugging Face layout), or under that name on the hub.

        Checkpoints with a pretraining or CTC head load their encoder. ``dropout`` replaces every dropout probability
        of the configuration, ``layer_drop`` that of skipping a block; ``options`` are those of the class. Raises
        InputError for another architecture and for weights that are absent, unreadable or not exactly those of the
        architecture.
        """
        model, normalized = checkpoints.load(source, revision, checkpoints.overrides(dropout, layer_drop))
        return cls(model, normalized=normalized, **options)

    @classmethod
    def random(
        cls,
        source: str | Path | Mapping[str, Any],
        seed: int = 0,
        *,
        revision: str | None = None,
        dropout: float | None = None,
        layer_drop: float | None = None,
        **options: Any,
    ) -> Self:
        """The architecture of ``source`` (as for ``load``, or the content of a config.json), randomly initialised.

        The weights are a function of ``seed``; the global random state is untouched.
        """
        model, normalized = checkpoints.random(source, seed, revision, checkpoints.overrides(dropout, layer_drop))
        return cls(model, normalized=normalized, **options)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames of clips of ``lengths`` samples."""
        config = self.model.config
        return frame_count(lengths, config.conv_kernel, config.conv_stride).clamp(min=0)

    def trainable(self, mode: str, lora: Lora | None = None) -> None:
        """Choose what trains: ``all``, ``transformer`` (all but the convolutions), ``top-N`` (the last N blocks),
        ``lora`` (low-rank updates of weights of the blocks, as ``lora`` says or by its defaults) or ``head`` (nothing
        in the encoder).

        The first call with ``lora`` puts the updates in place, where they stay: from then on, only ``lora`` and
        ``head`` can be chosen. Raises InputError for anything else.
        """
        blocks = self.model.encoder.layers
        top = re.fullmatch(r"top-([1-9]\d*)", mode)
        if mode not in ("all", "transformer", "lora", "head") and not (top and int(top[1]) <= len(blocks)):
            raise InputError(
                f"model.train={mode!r} is not a choice: "
                f"use all, transformer, lora, head or top-N with N from 1 to {len(blocks)}"
            )
        if mode == "lora":
            if not has_lora(self.model):
                inject(self.model, lora or Lora())
        elif mode != "head" and has_lora(self.model):
            raise InputError(f"model.train={mode!r} is not a choice for an encoder with LoRA: save it and load that")
        self.model.requires_grad_(mode in ("all", "transformer"))
        if mode == "transformer":
            self.model.feature_extractor.requires_grad_(False)
        if top:
            blocks[-int(top[1]) :].requires_grad_(True)
        if mode == "lora":
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(is_lora(name))
        for unused in self._unused():
            unused.requires_grad_(False)
        self.train(self.training)

    def _compile(self) -> None:
        for block in self.model.encoder.layers:
            block.compile()

    def _unused(self) -> Iterator[nn.Module]:
        """Yield the modules after the hidden states: they get no gradient, which distributed training refuses."""
        if self.model.config.do_stable_layer_norm:
            yield self.model.encoder.layer_norm
        if getattr(self.model, "adapter", None) is not None:
            yield self.model.adapter

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; parts without a trainable parameter stay in evaluation mode."""
        super().train(mode)
        model = self.model
        for part in (model.feature_extractor, model.feature_projection, *model.encoder.layers):
            part.train(mode and any(p.requires_grad for p in part.parameters()))
        model.encoder.dropout.train(model.feature_projection.training)
        # Some HuBERTs have a batch norm here: its running statistics are used, or clips would depend on their batch.
        model.encoder.pos_conv_embed.eval()
        return self

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        layers: Sequence[int] | None = None,
        mask: Tensor | None = None,
        channels: Tensor | None = None,
    ) -> Features:
        """Hidden states of ``layers`` (all of them by default), in the order asked.

        ``waveforms`` (B, T): 16 kHz in [-1, 1], of which the first ``lengths`` (B,) samples are each clip. ``mask``
        (B, F), boolean: frames replaced by the learned mask embedding (masked prediction, SpecAugment). F is the
        number of frames of T samples; a mask may be as short as the longest clip's frames. ``channels`` (B, D),
        boolean: dimensions of the projected frames that are zero throughout a clip (SpecAugment). Blocks above the
        highest asked layer are not run. With ``lengths`` on the CPU nothing waits for the device of ``waveforms``.

        Raises InputError for a layer that the model lacks or a clip shorter than the receptive field, ValueError for
        tensors of the wrong shape.
        """
        asked = self._asked(layers)
        counts = self._counts(waveforms, lengths)
        config = self.model.config
        longest = frame_count(max(counts), config.conv_kernel, config.conv_stride)
        if mask is not None and (
            mask.dtype != torch.bool or mask.ndim != 2 or len(mask) != len(counts) or mask.shape[1] < longest
        ):
            wanted = (len(counts), longest)
            raise ValueError(f"mask must be bool and at least {wanted}, not {mask.dtype} {tuple(mask.shape)}")
        if channels is not None and (channels.dtype != torch.bool or channels.shape != (len(counts), self.dim)):
            wanted = (len(counts), self.dim)
            raise ValueError(f"channels must be bool and {wanted}, not {channels.dtype} {tuple(channels.shape)}")
        lengths = lengths.to(waveforms.device, non_blocking=lengths.device.type == "cpu")
        frames = self.frame_lengths(lengths)
        hidden = self._project(self.convolve(waveforms, lengths), mask)
        if channels is not None:
            hidden = hidden.masked_fill(channels[:, None].to(hidden.device), 0.0)
        valid = valid_mask(frames, hidden.shape[1])
        padded = frame_count(min(counts), config.conv_kernel, config.conv_stride) < hidden.shape[1]
        states: dict[int, Tensor] = {}
        for n, state in enumerate(self._blocks(hidden, valid, padded)):
            if n in asked:
                states[n] = state.masked_fill(~valid[..., None], 0.0)
            if n == max(asked):
                break
        return Features(tuple(states[n] for n in asked), frames)

    def _asked(self, layers: Sequence[int] | None) -> list[int]:
        asked = list(range(self.n_layers)) if layers is None else list(layers)
        wrong = [n for n in asked if not 0 <= n < self.n_layers]
        if wrong or not asked:
            raise InputError(
                f"layers={asked}: choose at least one from 0 to {self.n_layers - 1}, the layers of this model"
            )
        return asked

    def _counts(self, waveforms: Tensor, lengths: Tensor) -> list[int]:
        if waveforms.ndim != 2 or not waveforms.is_floating_point() or lengths.shape != waveforms.shape[:1]:
            shapes = f"{tuple(waveforms.shape)} {waveforms.dtype} and {tuple(lengths.shape)}"
            raise ValueError(f"waveforms must be floating point (B, T) and lengths (B,), not {shapes}")
        counts: list[int] = lengths.tolist()
        for n, count in enumerate(counts):
            if count < self.receptive_field:
                raise InputError(
                    f"clip {n} of the batch has {count} samples, fewer than one frame of this model needs "
                    f"({self.receptive_field} samples, {1000 * self.receptive_field / SAMPLE_RATE:g} ms)"
                )
            if count > waveforms.shape[1]:
                raise ValueError(f"clip {n} of the batch is said to have {count} samples of {waveforms.shape[1]}")
        return counts

    def convolve(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Waveforms (B, T), of which ``lengths`` (B,) samples are each clip, to what leaves the convolutions (B, F, C).

        Frames past a clip's end hold anything.
        """
        if self.normalized:
            samples = normalize(waveforms, lengths)
        else:
            samples = waveforms.masked_fill(~valid_mask(lengths, waveforms.shape[1]), 0.0)
        extractor = self.model.feature_extractor
        dtype = extractor.conv_layers[0].conv.weight.dtype
        checkpointing = self.gradient_checkpointing and extractor.training and torch.is_grad_enabled()
        return convolve(extractor.conv_layers, samples.to(dtype), lengths, checkpointing=checkpointing)

    def _project(self, convolved: Tensor, mask: Tensor | None) -> Tensor:
        """Convolutions (B, F, C) to projected frames (B, F, D), masked."""
        projected = self.model.feature_projection(convolved)
        # HuBERT returns the projection alone, the others also the normalised convolutions.
        hidden: Tensor = projected[0] if isinstance(projected, tuple) else projected
        if mask is None:
            return hidden
        embedding = getattr(self.model, "masked_spec_embed", None)
        if embedding is None:
            raise InputError("this model has no mask embedding: set mask_time_prob above 0 in its config.json")
        # A micro-batch may be padded more than the batch that its mask was drawn for, or less: only valid frames count.
        mask = F.pad(mask, (0, hidden.shape[1] - mask.shape[1])).to(hidden.device)
        return torch.where(mask[..., None], embedding.to(hidden.dtype), hidden)

    def _positions(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """Positional convolution (B, F, D), to which padded frames are the zeros beyond the edge of a clip alone."""
        convolution = self.model.encoder.pos_conv_embed
        hidden = hidden.transpose(1, 2)
        if getattr(convolution, "batch_norm", None) is not None:
            hidden = convolution.batch_norm(hidden).masked_fill(~valid[:, None], 0.0)
        conv = convolution.conv
        if hidden.device.type == "cpu" and conv.kernel_size[0] >= WIDE_KERNEL:
            convolved = convolve_positions(hidden, conv.weight, conv.bias, conv.groups).to(hidden.dtype)
        else:
            convolved = conv(hidden)
        return convolution.activation(convolution.padding(convolved)).transpose(1, 2)

    def _blocks(self, hidden: Tensor, valid: Tensor, padded: bool) -> Iterator[Tensor]:
        """The input of the first transformer block, then the output of each, (B, F, D)."""
        encoder, config = self.model.encoder, self.model.config
        relative = config.model_type == "wavlm"
        hidden = hidden.masked_fill(~valid[..., None], 0.0)
        hidden = hidden + self._positions(hidden, valid)
        if not config.do_stable_layer_norm:
            hidden = encoder.layer_norm(hidden)
        hidden = encoder.dropout(hidden)
        yield hidden
        attention = self._attention_mask(hidden, valid) if padded else None
        bias = None
        for n, block in enumerate(encoder.layers):
            # Layer drop (Fan et al., 2020). WavLM's first block makes the position bias of the others.
            dropped = block.training and config.layerdrop > 0 and not (relative and n == 0)
            if not (dropped and torch.rand([]).item() < config.layerdrop):
                arguments: dict[str, Any] = {"attention_mask": attention}
                if relative:
                    arguments["position_bias"] = bias
                if self.gradient_checkpointing and block.training and torch.is_grad_enabled():
                    output = checkpoint(block, hidden, use_reentrant=False, **arguments)
                else:
                    output = block(hidden, **arguments)
                hidden, bias = output if relative else (output, None)
            yield hidden

    def _attention_mask(self, hidden: Tensor, valid: Tensor) -> Any:
        """Which frames attention sees, in the form that the attention kernel wants."""
        config = self.model.config
        # WavLM's attention takes the mask over frames itself.
        if config.model_type == "wavlm":
            return valid
        # As transformers makes it, but one row for all queries, and without waiting for the device to say whether
        # the mask hides anything.
        if config._attn_implementation in ("sdpa", ATTENTION):
            return valid[:, None, None]
        return create_bidirectional_mask(config, hidden, valid)

    def save(self, folder: str | Path) -> None:
        """Write the model to ``folder`` in Hugging Face layout, each file atomically; ``load`` reads it back.

        Low-rank updates are merged into the weights that are written, so they load as any others.
        """
        weights = merged(self.model) if has_lora(self.model) else None
        checkpoints.save(self.model, self.normalized, folder, weights)
