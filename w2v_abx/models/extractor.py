"""What every model of waveforms offers: an `Encoder`, an `Mfcc`, or anyone's own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:  # it loads transformers
    from w2v_abx.models.encoder import Features

__all__ = ["Extractor"]


class Extractor(Protocol):
    """Turns waveforms into features of one layer or more: ``dim`` values per frame, ``frequency`` frames per second."""

    n_layers: int
    dim: int
    frequency: float

    def __call__(self, waveforms: Tensor, lengths: Tensor, layers: Sequence[int] | None = None) -> "Features": ...

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Count the frames of clips of ``lengths`` samples."""
        ...
