"""Whatever turns waveforms into features."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from w2v_abx.models.encoder import Features

__all__ = ["Extractor"]


class Extractor(Protocol):
    """Turns waveforms into features of one layer or more: an `Encoder`, an `Mfcc`."""

    n_layers: int
    frequency: float

    def __call__(self, waveforms: Tensor, lengths: Tensor, layers: Sequence[int] | None = None) -> Features: ...
