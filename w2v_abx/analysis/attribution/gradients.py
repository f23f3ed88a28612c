"""Integrate the gradient of a decision along the path from noise to an utterance."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from w2v_abx.models.encoder import Encoder

__all__ = ["Attribution", "integrated_gradients", "without_normalization"]

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


def integrated_gradients(
    score: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, steps: int, together: int = TOGETHER
) -> Attribution:
    """Integrate the gradient of ``score``, of (S, T) to (S,), along the straight path from ``start`` to ``end``, (T,).

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


@contextmanager
def without_normalization(encoder: Encoder) -> Iterator[None]:
    """Have an encoder take samples as they are: a path of ever louder samples would be one point to it otherwise."""
    normalized, encoder.normalized = encoder.normalized, False
    try:
        yield
    finally:
        encoder.normalized = normalized
