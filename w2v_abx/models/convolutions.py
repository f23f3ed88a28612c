"""The convolutional front end of wav2vec 2.0, HuBERT and WavLM, run so that padding never reaches a valid frame."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["convolve", "frame_count", "normalize", "receptive_field", "valid_mask"]


Count = TypeVar("Count", int, Tensor)


def frame_count(samples: Count, kernels: Sequence[int], strides: Sequence[int]) -> Count:
    """Frames that the convolutions make of ``samples`` samples: only windows that lie wholly inside the clip."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples under one frame of the convolutions."""
    field = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        field = (field - 1) * stride + kernel
    return field


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


def convolve(layers: Sequence[Any], waveforms: Tensor, lengths: Tensor, *, checkpointing: bool) -> Tensor:
    """Waveforms (B, T), zero past ``lengths`` (B,), through Hugging Face's convolution layers to frames (B, F, C).

    A frame's window lies inside its clip, so padding could only leak through the group norm of the first layer of a
    base model, whose statistics run over time: there they are taken over each clip's own frames.

    The clips lie one behind the other in one sequence of rows (time, channels), so that a layer is a few plain matrix
    products over the whole batch. Windows that straddle two clips give rows that belong to no clip.
    """
    kernels = [layer.conv.kernel_size[0] for layer in layers]
    strides = [layer.conv.stride[0] for layer in layers]
    total, hop = frame_count(waveforms.shape[1], kernels, strides), prod(strides)
    # Products read whole strides: the end of the last clip's last window rounds up.
    whole = [-(-kernel // stride) * stride for kernel, stride in zip(kernels, strides, strict=True)]
    beyond = receptive_field(whole, strides) - receptive_field(kernels, strides)
    slot = -(-(waveforms.shape[1] + beyond) // hop)
    hidden = F.pad(waveforms, (0, slot * hop - waveforms.shape[1])).reshape(-1, 1)
    for layer in layers:
        grouped = isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm)
        step = partial(_grouped_layer, layer, lengths=lengths) if grouped else partial(_layer, layer)
        hidden = checkpoint(step, hidden, use_reentrant=False) if checkpointing else step(hidden)
    hidden = F.pad(hidden, (0, 0, 0, len(waveforms) * slot - len(hidden)))
    return hidden.view(len(waveforms), slot, -1)[:, :total]


def _layer(layer: Any, hidden: Tensor) -> Tensor:
    """Rows (N, C) to the rows (N', C') of the next layer."""
    convolution = layer.conv
    dtype = _product_dtype(hidden, convolution.weight)
    parts = _parts(hidden.to(dtype), convolution.kernel_size[0], convolution.stride[0])
    weights = convolution.weight.to(dtype).permute(2, 1, 0).flatten(0, 1).split([part.shape[1] for part in parts])
    bias = None if convolution.bias is None else convolution.bias.to(dtype)
    output = F.linear(parts[0], weights[0].T, bias)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        output.addmm_(part, weight)
    norm = getattr(layer, "layer_norm", None)
    activated: Tensor = layer.activation(output if norm is None else norm(output))
    return activated


def _product_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """What autocast would compute a convolution in; it does not know the products in place."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _parts(rows: Tensor, kernel: int, stride: int) -> list[Tensor]:
    """The windows (N', kernel * C) of ``rows`` (N, C), cut at every stride: each part is a view, nothing is copied."""
    blocks = rows[: len(rows) // stride * stride].view(len(rows) // stride, -1)
    ends = [min(start + stride, kernel) - start for start in range(0, kernel, stride)]
    count = len(blocks) - len(ends) + 1
    return [blocks[n : n + count, : end * rows.shape[1]] for n, end in enumerate(ends)]


def _grouped_layer(layer: Any, hidden: Tensor, *, lengths: Tensor) -> Tensor:
    """As ``_layer`` for the samples (B * T, 1) themselves and a norm of each channel over each clip's own frames.

    A channel is a weighted sum of the samples in its window, so that its mean and variance follow from the windows'
    moments, and the norm folds into weights of each clip's own: the activations, the widest of the model, are never
    read for statistics.
    """
    convolution, norm = layer.conv, layer.layer_norm
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    dtype = _product_dtype(hidden, convolution.weight)
    frames = len(hidden) // len(lengths) // stride
    parts = _parts(F.pad(hidden, (0, 0, 0, kernel)), kernel, stride)
    parts = [part[: len(lengths) * frames].view(len(lengths), frames, -1) for part in parts]
    valid = valid_mask(frame_count(lengths, [kernel], [stride]), frames)[..., None]
    # A last value of one makes the counts and sums part of the second moments, and the shift part of the product.
    # Filled, not multiplied by zero: the next clip, into which an invalid window reaches, may hold a NaN.
    windows = torch.cat([*parts, torch.ones_like(parts[0][..., :1])], 2).masked_fill(~valid, 0.0)
    with torch.autocast(hidden.device.type, enabled=False):
        # In float64: the variance of a channel that responds to little of the energy is a small difference.
        exact = windows.to(torch.float32 if hidden.device.type == "mps" else torch.float64)
        moments = exact.mT @ exact
        moments = moments / moments[:, -1:, -1:]
        mean, second = moments[:, -1, :-1], moments[:, :-1, :-1]
        weight = convolution.weight[:, 0].to(exact.dtype)
        variance = ((weight @ (second - mean[:, :, None] * mean[:, None])) * weight).sum(2)
        scale = norm.weight.to(exact.dtype) * torch.rsqrt(variance + norm.eps)
        shift = norm.bias.to(exact.dtype) - scale * (mean @ weight.T)
        if convolution.bias is not None:
            # The norm cancels it, but distributed training refuses a parameter that gets no gradient.
            shift = shift + 0.0 * convolution.bias
        folded = torch.cat([scale[:, :, None] * weight, shift[:, :, None]], 2).mT.to(dtype)
        output = windows.to(dtype) @ folded
    activated: Tensor = layer.activation(output).flatten(0, 1)
    return activated
