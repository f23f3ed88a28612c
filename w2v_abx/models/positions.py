"""The positional convolution of the encoders on a CPU, by fast Fourier transforms.

Its kernels are 128 frames wide: PyTorch's convolution takes two to seven times as long, the more the larger the batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["convolve_positions"]


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
