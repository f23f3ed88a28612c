"""The convolutional front end of wav2vec 2.0, HuBERT and WavLM, run so that padding never reaches a valid frame."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["convolve", "frame_count", "normalize", "valid_mask"]


Count = TypeVar("Count", int, Tensor)


def frame_count(samples: Count, kernels: Sequence[int], strides: Sequence[int]) -> Count:
    """Frames that the convolutions make of ``samples`` samples: only windows that lie wholly inside the clip."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def valid_mask(lengths: Tensor, total: int) -> Tensor:
    """Lengths (B,) to a mask (B, total), true inside each clip."""
    return torch.arange(total, device=lengths.device) < lengths[:, None]


def normalize(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Each clip (B, T) to zero mean and unit variance over its own samples, as ``Wav2Vec2FeatureExtractor`` does.

    The samples past a clip's length become zero.
    """
    valid = valid_mask(lengths, waveforms.shape[1])
    count = lengths[:, None].to(torch.float32)
    samples = waveforms.float().masked_fill(~valid, 0.0)
    centred = (samples - samples.sum(1, keepdim=True) / count).masked_fill(~valid, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-7)


def convolve(layers: Iterable[Any], waveforms: Tensor, lengths: Sequence[int], *, checkpointing: bool) -> Tensor:
    """Waveforms (B, T) through Hugging Face's convolution layers to (B, F, C).

    A frame's window lies inside its clip, so padding could only leak through the group norm of the first layer of a
    base model, whose statistics run over time: there they are taken over each clip's own frames.
    """
    hidden = waveforms[:, None]
    frames = list(lengths)
    for layer in layers:
        frames = [frame_count(n, layer.conv.kernel_size, layer.conv.stride) for n in frames]
        grouped = isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm)
        step = partial(_grouped_layer, layer, frames=frames) if grouped else layer
        hidden = checkpoint(step, hidden, use_reentrant=False) if checkpointing else step(hidden)
    return hidden.transpose(1, 2)


def _grouped_layer(layer: Any, hidden: Tensor, *, frames: Sequence[int]) -> Tensor:
    activated: Tensor = layer.activation(_group_norm(layer.conv(hidden), layer.layer_norm, frames))
    return activated


def _group_norm(hidden: Tensor, norm: nn.GroupNorm, frames: Sequence[int]) -> Tensor:
    """Group norm of (B, C, F) over the first ``frames[b]`` frames of each clip, its statistics in float32."""
    total = hidden.shape[-1]
    with torch.autocast(hidden.device.type, enabled=False):

        def normed(part: Tensor) -> Tensor:
            weight, bias = norm.weight.float(), norm.bias.float()
            return F.group_norm(part.float(), norm.num_groups, weight, bias, norm.eps).to(hidden.dtype)

        if all(n == total for n in frames):
            return normed(hidden)
        # Clip by clip rather than with masked sums: the same kernel as for a clip alone, and no float32 temporaries
        # of the size of the whole batch.
        return torch.cat([F.pad(normed(hidden[b : b + 1, :, :n]), (0, total - n)) for b, n in enumerate(frames)])
