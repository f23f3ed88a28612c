"""SpecAugment-style masking while a model is fine-tuned: spans of frames and of channels are hidden from it.

Park et al. (2019), SpecAugment; on the latent frames, as Baevski et al. (2020) fine-tuned wav2vec 2.0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from w2v_abx.errors import InputError
from w2v_abx.heads.draws import clip_seeds
from w2v_abx.heads.masking import draw_spans
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import checks

__all__ = ["SpecAugment"]


@dataclass(frozen=True)
class SpecAugment:
    """What is hidden, in transformers' terms.

    Args:
        mask_time_prob: share of a clip's frames in masked spans if spans did not overlap; the learned mask embedding
            takes their place.
        mask_time_length: frames in a span.
        mask_feature_prob: the same share of the channels of the projected frames, which are zero throughout the clip.
        mask_feature_length: channels in a span.
        seed: what is hidden is a function of seed, step and the clip's key.
    """

    mask_time_prob: float = 0.5
    mask_time_length: int = 10
    mask_feature_prob: float = 0.1
    mask_feature_length: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for axis in ("time", "feature"):
            key = f"objective.masking.mask_{axis}"
            checks.number(f"{key}_prob", getattr(self, f"mask_{axis}_prob"), low=0, high=1)
            checks.whole(f"{key}_length", getattr(self, f"mask_{axis}_length"), 1)

    def check(self, encoder: Encoder) -> None:
        """Raise InputError where ``encoder`` cannot be masked so."""
        if not isinstance(encoder, Encoder):
            raise InputError(
                f"objective.masking: {type(encoder).__name__} cannot be masked; give objective/masking=null"
            )
        if self.mask_time_prob and getattr(encoder.model, "masked_spec_embed", None) is None:
            raise InputError(
                f"objective.masking.mask_time_prob={self.mask_time_prob} needs a mask embedding, and this model has "
                "none: set mask_time_prob above 0 in its config.json, or objective.masking.mask_time_prob=0"
            )
        if self.mask_feature_prob and self.mask_feature_length > encoder.dim:
            raise InputError(
                f"objective.masking.mask_feature_length={self.mask_feature_length} is more than the {encoder.dim} "
                "channels of this model"
            )

    def draw(self, keys: Sequence[str], frames: Tensor, dim: int, step: int) -> dict[str, Tensor]:
        """``time_mask`` (B, F) and ``feature_mask`` (B, dim), both bool, on the CPU, for clips of ``frames`` (B,).

        Either is left out where it would hide nothing at any step.
        """
        rows: dict[str, list[Tensor]] = {"time_mask": [], "feature_mask": []}
        longest = int(frames.max())
        for seed, count in zip(clip_seeds(keys, self.seed, step), frames.tolist(), strict=True):
            generator = torch.Generator().manual_seed(seed)
            if self.mask_time_prob:
                hidden = _spans(count, self.mask_time_prob, self.mask_time_length, generator)
                rows["time_mask"].append(torch.nn.functional.pad(hidden, (0, longest - count)))
            if self.mask_feature_prob:
                rows["feature_mask"].append(_spans(dim, self.mask_feature_prob, self.mask_feature_length, generator))
        return {name: torch.stack(masks) for name, masks in rows.items() if masks}


def _spans(length: int, share: float, span: int, generator: torch.Generator) -> Tensor:
    """Spans over ``share`` of ``length`` on average, their number rounded at random; none where one does not fit."""
    spans = int(share * length / span + float(torch.rand((), generator=generator)))
    return draw_spans(length, spans if span <= length else 0, span, generator)
