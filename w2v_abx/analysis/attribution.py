"""Attribute a decision to the sound that it was made of: integrated gradients and attention roll-out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.models.encoder import Encoder

__all__ = [
    "Attribution",
    "attention",
    "bands",
    "integrated_gradients",
    "levels",
    "randomized",
    "roll_out",
    "spread",
    "without_normalization",
]

Score = Callable[[Tensor], Tensor]  # waveforms (S, T) to numbers (S,)

WINDOW, HOP = 400, 160  # samples: 25 ms every 10 ms
BANDS = 40  # of equal width in mel, each with one line of the spectrum at least
TOGETHER = 8  # steps whose gradients are computed at once


class Attribution(NamedTuple):
    """``gradient`` (T,), the mean along the path; the path ``change`` (T,); the scores at its ``start`` and ``end``."""

    gradient: Tensor
    change: Tensor
    start: float
    end: float

    @property
    def values(self) -> Tensor:
        """What each sample adds to the score, (T,)."""
        return self.gradient * self.change

    @property
    def gap(self) -> float:
        """How far the sum of the values is from the change of the score, 0 where all is attributed."""
        return abs(float(self.values.sum()) - (self.end - self.start))


def integrated_gradients(score: Score, start: Tensor, end: Tensor, steps: int, together: int = TOGETHER) -> Attribution:
    """Integrate the gradient of ``score`` along the straight path from ``start`` to ``end``, (T,) each.

    Sundararajan, Taly and Yan (2017), "Axiomatic attribution for deep networks". By the rule of Gauss and Legendre,
    which is exact for a gradient that is a polynomial of degree 2 · ``steps`` - 1 along the path.

    Args:
        together: steps at once; it changes nothing but memory and time.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    shares = torch.from_numpy((nodes + 1) / 2).to(start.dtype)
    change, gradient = end - start, torch.zeros_like(end, dtype=torch.float64)
    parts = zip(shares.split(together), torch.from_numpy(weights / 2).split(together), strict=True)
    for share, weight in parts:
        points = (start + share[:, None] * change).requires_grad_()
        (slopes,) = torch.autograd.grad(score(points).sum(), points)
        gradient += weight @ slopes.double()
    with torch.no_grad():
        first, last = (float(score(ends[None])[0]) for ends in (start, end))
    return Attribution(gradient, change.double(), first, last)


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


def _mel(frequencies: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + frequencies / 700)


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


def randomized(encoder: Encoder, seed: int, *, blocks_only: bool) -> Encoder:
    """Copy an encoder with random weights in its transformer blocks, or everywhere."""
    drawn = Encoder.random(encoder.model.config.to_dict(), seed).model.state_dict()
    copied = deepcopy(encoder)
    chosen = {name: value for name, value in drawn.items() if name.startswith("encoder.layers.") or not blocks_only}
    copied.model.load_state_dict(chosen, strict=False)
    return copied


@contextmanager
def without_normalization(encoder: Encoder) -> Iterator[None]:
    """Have an encoder take samples as they are: a path of ever louder samples would be one point to it otherwise."""
    normalized, encoder.normalized = encoder.normalized, False
    try:
        yield
    finally:
        encoder.normalized = normalized
