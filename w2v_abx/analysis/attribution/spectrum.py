"""Spread attributions over time and frequency."""

import numpy as np
import torch
from torch import Tensor

from w2v_abx.analysis.attribution.gradients import Attribution
from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.statistics.cells import Floats

__all__ = ["HOP", "bands", "levels", "spread"]

WINDOW, HOP = 400, 160  # samples: 25 ms every 10 ms
BANDS = 40  # of equal width in mel, each with one line of the spectrum at least


def bands() -> list[float]:
    """Give the edges of the frequency bands in Hz, (BANDS + 1,): each is as wide in mel as any other."""
    top = _mel(np.array(SAMPLE_RATE / 2))
    return [float(700 * (10 ** (top * n / BANDS / 2595) - 1)) for n in range(BANDS + 1)]


def spread(attribution: Attribution) -> Tensor:
    """Say what each band (25 ms every 10 ms) adds to the score, (frames, BANDS): together, what the samples add.

    The path is a sum of the lines of its short-time spectrum, in which the score is as linear, or not, as in the
    samples: a line adds itself times the gradient in its direction.
    """
    with torch.enable_grad():
        lines = _lines(attribution.change).requires_grad_()
        window = torch.hann_window(WINDOW, dtype=torch.float64)
        samples = torch.istft(lines, WINDOW, HOP, window=window, length=len(attribution.change))
        (slopes,) = torch.autograd.grad(samples @ attribution.gradient, lines)
    lines = lines.detach()
    return _banded(lines.real * slopes.real + lines.imag * slopes.imag)


def levels(samples: Tensor) -> Tensor:
    """Compute the level of each band in dB, (frames, BANDS), of samples (T,); the loudest is at 0."""
    power = _banded(_lines(samples.double()).abs().square())
    return 10 * torch.log10(power / power.max().clamp(min=1e-30) + 1e-8)


def _lines(samples: Tensor) -> Tensor:
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    return torch.stft(samples, WINDOW, HOP, window=window, return_complex=True)


def _banded(lines: Tensor) -> Tensor:
    """Sum the lines (L, frames) of each band."""
    frequencies = np.arange(len(lines)) * SAMPLE_RATE / WINDOW
    band = np.minimum(_mel(frequencies) / _mel(np.array(SAMPLE_RATE / 2)) * BANDS, BANDS - 1).astype(np.int64)
    return torch.zeros(BANDS, lines.shape[1], dtype=lines.dtype).index_add_(0, torch.from_numpy(band), lines).T


def _mel(frequencies: Floats) -> Floats:
    return 2595 * np.log10(1 + frequencies / 700)
