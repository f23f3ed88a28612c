"""The convolutions of an encoder as a model of their own, whose one layer is their output."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from w2v_abx.errors import InputError
from w2v_abx.models.convolutions import valid_mask
from w2v_abx.models.encoder import Encoder, Features

__all__ = ["Convolved"]


class Convolved(nn.Module):
    """What leaves the convolutions of ``encoder``: before layer norm, projection and positions, which layer 0 is after.

    It is Hugging Face's ``feature_extractor``, not its ``extract_features``, which are normalised.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalized = encoder.normalized  # tells features apart
        self.n_layers = 1
        self.dim: int = encoder.model.config.conv_dim[-1]
        self.frequency = encoder.frequency

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames of clips of ``lengths`` samples."""
        return self.encoder.frame_lengths(lengths)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor, layers: Sequence[int] | None = None) -> Features:
        """Convolutions (B, F, C) of the clips ``waveforms[b, :lengths[b]]`` at 16 kHz, zero past each clip's end.

        Raises InputError for any layer but 0 and for a clip shorter than one frame.
        """
        asked = [0] if layers is None else list(layers)
        if not asked or any(layer != 0 for layer in asked):
            raise InputError(f"layers={asked}: the convolutions have layer 0 alone")
        lengths = lengths.to(waveforms.device)
        if int(lengths.min()) < self.encoder.receptive_field:
            raise InputError(f"a clip has fewer samples than a frame of this model ({self.encoder.receptive_field})")
        frames = self.frame_lengths(lengths)
        convolved = self.encoder.convolve(waveforms, lengths)
        valid = valid_mask(frames, convolved.shape[1])
        return Features((convolved.masked_fill(~valid[..., None], 0.0),) * len(asked), frames)
