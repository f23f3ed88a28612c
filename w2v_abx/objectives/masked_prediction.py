"""Self-supervised: predict the acoustic cluster of frames that the encoder cannot see (HuBERT's first iteration).

Hsu et al. (2021), HuBERT: self-supervised speech representation learning by masked prediction of hidden units.
"""

from typing import Any

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.data import ShardDataModule
from w2v_abx.encoder import Encoder
from w2v_abx.errors import InputError
from w2v_abx.heads import valid_frames
from w2v_abx.mfcc import Mfcc
from w2v_abx.microbatch import Batch, ElasticModule
from w2v_abx.objectives.optimization import Optimization

__all__ = ["MaskedPrediction", "draw_mask"]


def draw_mask(lengths: Tensor, share: float, span: int, generator: torch.Generator) -> Tensor:
    """Spans of masked frames ``(B, max(lengths))`` bool, on the CPU.

    Each clip starts ``share · length / span`` spans (at least one) at different frames; overlapping spans merge. A clip
    shorter than a span is masked from its start.
    """
    frames = int(lengths.max())
    mask = torch.zeros(len(lengths), frames, dtype=torch.bool)
    for row, length in enumerate(lengths.tolist()):
        starts = max(1, length - span + 1)
        spans = min(starts, max(1, round(share * length / span)))
        first = torch.randperm(starts, generator=generator)[:spans]
        mask[row, (first[:, None] + torch.arange(span)).flatten().clamp(max=length - 1)] = True
    return mask


class MaskedPrediction(ElasticModule):
    """Cross-entropy on the masked frames between linear logits of the last layer and k-means clusters of MFCCs.

    The clusters are found when training starts, on ``cluster_clips`` clips. Each clip's coefficients are first brought to
    zero mean and unit variance, which takes most of the voice out of the targets.

    Args:
        encoder: usually random, trained whole.
        data: the prepared corpus.
        optimization: optimiser and schedule.
        clusters: their number.
        cluster_clips: clips that the clusters are found on.
        mask_share: share of frames in masked spans if spans did not overlap.
        mask_span: frames in a span.
        seed: of clusters and masks.
        microbatch: clips run at once, ``None`` for the whole batch.
        gradient_clip_norm: largest gradient norm of a step, ``None`` for any.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        optimization: Optimization,
        clusters: int = 100,
        cluster_clips: int = 400,
        mask_share: float = 0.65,
        mask_span: int = 10,
        seed: int = 0,
        microbatch: int | None = None,
        gradient_clip_norm: float | None = None,
    ) -> None:
        super().__init__(microbatch, gradient_clip_norm)
        for key, value in (("clusters", clusters), ("cluster_clips", cluster_clips), ("mask_span", mask_span)):
            if value < 1:
                raise InputError(f"objective.{key}={value} must be at least 1")
        if not 0 < mask_share <= 1:
            raise InputError(f"objective.mask_share={mask_share} must lie in (0, 1]")
        data.targets = {}
        self.encoder = encoder
        self.optimization = optimization
        self.mfcc = Mfcc()
        self.linear = nn.Linear(encoder.dim, clusters)
        self.centroids: Tensor
        self.register_buffer("centroids", torch.zeros(clusters, self.mfcc.dim))
        self.cluster_clips, self.mask_share, self.mask_span, self.seed = cluster_clips, mask_share, mask_span, seed

    def targets(self, waveforms: Tensor, lengths: Tensor, frames: Tensor) -> Tensor:
        """Normalised coefficients ``(B, F, 39)`` at the centres of the encoder's frames, of which ``frames`` are valid."""
        (hidden,), counts = self.mfcc(waveforms, lengths)
        valid = valid_frames(counts, hidden.shape[1]).unsqueeze(-1)
        mean = (hidden * valid).sum(1, keepdim=True) / counts[:, None, None]
        deviation = (((hidden - mean) * valid).square().sum(1, keepdim=True) / counts[:, None, None]).sqrt()
        normal = (hidden - mean) / deviation.clamp(min=1e-5)
        centres = (torch.arange(int(frames.max()), device=frames.device) + 0.5) / self.encoder.frequency
        nearest = (centres * self.mfcc.frequency).long().clamp(max=hidden.shape[1] - 1)
        return normal[:, nearest]

    def on_fit_start(self) -> None:
        """Find the clusters, unless a checkpoint has brought them."""
        if self.centroids.any():
            return
        rows: list[np.ndarray] = []
        clips = 0
        for batch in self.trainer.datamodule.train_dataloader():  # type: ignore[attr-defined]
            frames = self.encoder.frame_lengths(batch["lengths"])
            features = self.targets(batch["waveforms"].to(self.device), batch["lengths"].to(self.device), frames)
            rows.append(features[valid_frames(frames, features.shape[1])].cpu().numpy())
            clips += len(batch["keys"])
            if clips >= self.cluster_clips:
                break
        frames_seen = np.concatenate(rows)
        clusters = len(self.centroids)
        if len(frames_seen) < clusters:
            raise InputError(f"objective.clusters={clusters} is more than the {len(frames_seen)} frames of the clips")
        means = MiniBatchKMeans(clusters, random_state=self.seed, n_init=3, batch_size=4096).fit(frames_seen)
        self.centroids.copy_(torch.from_numpy(means.cluster_centers_))

    def prepare(self, batch: Batch) -> Batch:
        """Adds ``mask`` and ``clusters``, both ``(B, F)``: drawn for the whole batch, so that splitting changes nothing."""
        lengths = self.encoder.frame_lengths(batch["lengths"])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)
        mask = draw_mask(lengths.cpu(), self.mask_share, self.mask_span, generator).to(self.device)
        with torch.no_grad():
            features = self.targets(batch["waveforms"], batch["lengths"], lengths)
            clusters = torch.cdist(features, self.centroids.expand(len(features), -1, -1)).argmin(-1)
        return {**batch, "mask": mask, "clusters": clusters}

    def normaliser(self, batch: Batch) -> Tensor:
        return batch["mask"].sum()

    def loss_sum(self, micro: Batch) -> dict[str, Tensor]:
        frames = int(self.encoder.frame_lengths(micro["lengths"]).max())
        mask = micro["mask"][:, :frames]
        layer = self.encoder.n_layers - 1
        (hidden,), _ = self.encoder(micro["waveforms"], micro["lengths"], [layer], mask=mask)
        logits = self.linear(hidden[mask]).float()
        clusters = micro["clusters"][:, :frames][mask]
        return {
            "loss": functional.cross_entropy(logits, clusters, reduction="sum"),
            "accuracy": (logits.argmax(-1) == clusters).sum(),
        }

    def configure_optimizers(self) -> Any:
        return self.optimization.configure(self)
