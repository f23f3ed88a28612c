"""Mel-frequency cepstral coefficients: the baseline that needs no model."""

from collections.abc import Sequence

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Features
from w2v_abx.system import checks

__all__ = ["Mfcc"]

WINDOW, HOP, FFT = 400, 160, 512
LIFTER = 22


class Mfcc(nn.Module):
    """13 MFCCs with first and second derivatives (Davis and Mermelstein, 1980; Furui, 1986), called as an Encoder.

    Windows of 25 ms every 10 ms, 40 mel bands, cepstral lifter 22 as in HTK and Kaldi: without it the angle between two
    frames is mostly that of their loudness. Frame k is centred on (k + 1/2) / 100 s, where the ABX rule for the
    frames of an item puts it, so there are round(100 · seconds) frames; beyond its edges a clip is mirrored. Each clip
    is computed on its own samples alone, which makes padding irrelevant.

    Args:
        train: "head": what trains on it are heads alone, as it has no parameters.
    """

    n_layers = 1
    dim = 39
    frequency = SAMPLE_RATE / HOP
    receptive_field = WINDOW

    def __init__(self, train: str = "head") -> None:
        super().__init__()
        checks.choice("model.train", train, ["head"], hint="MFCC has no parameters that could train")
        self.cepstrum = torchaudio.transforms.MFCC(
            sample_rate=SAMPLE_RATE,
            n_mfcc=self.dim // 3,
            log_mels=True,
            melkwargs={"n_fft": FFT, "win_length": WINDOW, "hop_length": HOP, "n_mels": 40, "center": False},
        )
        sine = torch.sin(torch.pi * torch.arange(self.dim // 3) / LIFTER)
        self.lifter: Tensor
        self.register_buffer("lifter", 1 + LIFTER / 2 * sine, persistent=False)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames of clips of ``lengths`` samples: those whose centre lies inside."""
        return (lengths + HOP // 2) // HOP

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor, layers: Sequence[int] | None = None) -> Features:
        """Coefficients (B, F, 39) in float32, as layer 0, of the clips ``waveforms[b, :lengths[b]]`` at 16 kHz.

        Raises InputError for any other layer and for a clip shorter than one window.
        """
        asked = [0] if layers is None else list(layers)
        if not asked or any(layer != 0 for layer in asked):
            raise InputError(f"layers={asked}: MFCC has layer 0 alone")
        counts: list[int] = lengths.tolist()
        if min(counts) < WINDOW:
            n = counts.index(min(counts))
            raise InputError(f"clip {n} of the batch has {counts[n]} samples, fewer than one 25 ms window ({WINDOW})")
        with torch.autocast(waveforms.device.type, enabled=False):
            clips = [self._clip(waveform[:n].float()) for waveform, n in zip(waveforms, counts, strict=True)]
        features = nn.utils.rnn.pad_sequence(clips, batch_first=True)
        return Features((features,) * len(asked), self.frame_lengths(lengths).to(waveforms.device))

    def _clip(self, samples: Tensor) -> Tensor:
        """One clip (T,) to (F, 39)."""
        frames = (len(samples) + HOP // 2) // HOP
        before = (FFT - HOP) // 2
        after = max(0, (frames - 1) * HOP + FFT - before - len(samples))
        padded = F.pad(samples[None], (before, after), mode="reflect")[0]
        static = self.cepstrum(padded)[:, :frames] * self.lifter[:, None]
        delta = torchaudio.functional.compute_deltas(static)
        return torch.cat([static, delta, torchaudio.functional.compute_deltas(delta)]).T
