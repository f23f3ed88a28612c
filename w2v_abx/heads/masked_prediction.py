"""Self-supervised: predict the acoustic cluster of frames that the encoder cannot see (HuBERT's first iteration).

Hsu et al. (2021), HuBERT: self-supervised speech representation learning by masked prediction of hidden units.
"""

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.distributed.collectives import agree, sum_over_ranks
from w2v_abx.errors import InputError
from w2v_abx.heads.draws import clip_seeds
from w2v_abx.heads.masking import draw_mask
from w2v_abx.models.convolutions import valid_mask
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.training.microbatch import Batch
from w2v_abx.training.selfsupervised import SelfSupervised, SelfSupervision, rank

__all__ = ["ClusterPrediction", "MaskedPrediction", "change_speed"]


def change_speed(waveforms: Tensor, lengths: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Clips ``(B, T)`` of ``lengths`` played ``factors`` ``(B,)`` times as fast, and their new lengths.

    Linear interpolation: good enough to vary what a model hears, not to resample. The lengths may lie elsewhere than
    the clips, along with the factors.
    """
    if bool((factors == 1).all()):
        return waveforms, lengths
    fast = (lengths / factors).long().clamp(min=1)
    device = waveforms.device
    position = torch.arange(int(fast.max()), device=device) * factors.to(device, non_blocking=True)[:, None]
    before = position.long().clamp(max=waveforms.shape[1] - 1)
    after = (before + 1).clamp(max=waveforms.shape[1] - 1)
    share = (position - before).clamp(0, 1)
    played = waveforms.gather(1, before) * (1 - share) + waveforms.gather(1, after) * share
    return played.masked_fill(~valid_mask(fast.to(device, non_blocking=True), played.shape[1]), 0.0), fast


class ClusterPrediction(SelfSupervision):
    """Cross-entropy on the masked frames between linear logits of the last layer and k-means clusters of MFCCs.

    The clusters are found when training starts, on ``cluster_clips`` clips. Each clip's coefficients are first brought
    to zero mean and unit variance, which takes most of the voice out of the targets.

    Args:
        encoder: whose last layer is read; usually random, trained whole.
        clusters: their number.
        cluster_clips: clips that the clusters are found on, those that the first process reads.
        mask_share: share of frames in masked spans if spans did not overlap.
        mask_span: frames in a span.
        unmasked_weight: weight of a frame that the encoder does see, beside 1 for a masked one.
        speed: each clip is played faster by a factor drawn up to this one, or slower by as much, before the encoder
            hears it: formants, pitch and pace move, its targets do not. 1 leaves clips alone.
        seed: of clusters, masks and speeds; the latter two are, for each clip, a function of it, the step and the key.
    """

    def __init__(
        self,
        encoder: Encoder,
        clusters: int = 100,
        cluster_clips: int = 400,
        mask_share: float = 0.65,
        mask_span: int = 10,
        unmasked_weight: float = 0.0,
        speed: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(encoder)
        for key, value in (("clusters", clusters), ("cluster_clips", cluster_clips), ("mask_span", mask_span)):
            if value < 1:
                raise InputError(f"objective.{key}={value} must be at least 1")
        if not 0 < mask_share <= 1:
            raise InputError(f"objective.mask_share={mask_share} must lie in (0, 1]")
        if unmasked_weight < 0:
            raise InputError(f"objective.unmasked_weight={unmasked_weight} must not be negative")
        if speed < 1:
            raise InputError(f"objective.speed={speed} must be at least 1")
        self.frequency, self.receptive_field = encoder.frequency, encoder.receptive_field
        self.mfcc = Mfcc()
        self.linear = nn.Linear(encoder.dim, clusters)
        self.centroids: Tensor
        self.register_buffer("centroids", torch.zeros(clusters, self.mfcc.dim))
        self.cluster_clips, self.mask_share, self.mask_span = cluster_clips, mask_share, mask_span
        self.unmasked_weight, self.speed, self.seed = unmasked_weight, speed, seed

    def targets(self, waveforms: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        """Normalised coefficients ``(B, F, 39)`` of the clips at the ``times`` ``(B, F)`` in seconds."""
        (hidden,), counts = self.mfcc(waveforms, lengths)
        valid = valid_mask(counts, hidden.shape[1]).unsqueeze(-1)
        mean = (hidden * valid).sum(1, keepdim=True) / counts[:, None, None]
        deviation = (((hidden - mean) * valid).square().sum(1, keepdim=True) / counts[:, None, None]).sqrt()
        normal = (hidden - mean) / deviation.clamp(min=1e-5)
        nearest = (times * self.mfcc.frequency).long().clamp(max=hidden.shape[1] - 1)
        return normal.gather(1, nearest[..., None].expand(-1, -1, hidden.shape[2]))

    def frame_times(self, frames: Tensor) -> Tensor:
        """Centres of the encoder's frames in seconds, ``(B, max(frames))``."""
        centres = (torch.arange(int(frames.max()), device=frames.device) + 0.5) / self.frequency
        return centres.expand(len(frames), -1)

    def begin(self, encoder: Encoder, batches: Iterable[Batch]) -> None:
        """Find the clusters, unless a checkpoint has brought them; those of the first process are everyone's."""
        if self.centroids.any():
            return
        error: InputError | None = None
        if rank() == 0:
            try:
                self.centroids.copy_(torch.from_numpy(self._clusters(encoder, batches)))
            except InputError as found:
                error = found
        agree(error)
        self.centroids.copy_(sum_over_ranks(self.centroids))

    def _clusters(self, encoder: Encoder, batches: Iterable[Batch]) -> np.ndarray:
        device = self.centroids.device
        rows: list[np.ndarray] = []
        clips = 0
        for batch in batches:
            frames = encoder.frame_lengths(batch["lengths"])
            times = self.frame_times(frames).to(device)
            features = self.targets(batch["waveforms"].to(device), batch["lengths"].to(device), times)
            rows.append(features[valid_mask(frames, features.shape[1])].cpu().numpy())
            clips += len(batch["keys"])
            if clips >= self.cluster_clips:
                break
        frames_seen = np.concatenate(rows)
        clusters = len(self.centroids)
        if len(frames_seen) < clusters:
            raise InputError(f"objective.clusters={clusters} is more than the {len(frames_seen)} frames of the clips")
        means = MiniBatchKMeans(clusters, random_state=self.seed, n_init=3, batch_size=4096).fit(frames_seen)
        centres: np.ndarray = means.cluster_centers_
        return centres

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        """Adds ``mask`` and ``clusters``, both ``(B, F)``, and changes the speed of the clips."""
        device = batch["waveforms"].device
        if not batch["keys"]:
            return {**batch, "rated": torch.zeros(0, device=device)}
        generators = [torch.Generator().manual_seed(seed) for seed in clip_seeds(batch["keys"], self.seed, step)]
        spread = 2 * torch.cat([torch.rand(1, generator=generator) for generator in generators]) - 1
        longest = batch["lengths"] / self.receptive_field  # a frame must be left
        factors = (self.speed**spread).to(longest.device).minimum(longest)
        waveforms, lengths = change_speed(batch["waveforms"], batch["lengths"], factors)
        frames = encoder.frame_lengths(lengths)
        mask = draw_mask(frames.cpu(), self.mask_share, self.mask_span, generators).to(device, non_blocking=True)
        with torch.no_grad():
            times = self.frame_times(frames) * factors[:, None]
            features = self.targets(batch["waveforms"], batch["lengths"], times.to(device, non_blocking=True))
            clusters = torch.cdist(features, self.centroids.expand(len(features), -1, -1)).argmin(-1)
        masked = mask.sum(1)
        rated = masked + self.unmasked_weight * (frames.to(device, non_blocking=True) - masked)
        return {
            **batch,
            "waveforms": waveforms,
            "lengths": lengths,
            "mask": mask,
            "clusters": clusters,
            "rated": rated,
        }

    def normaliser(self, batch: Batch) -> Tensor:
        total: Tensor = batch["rated"].sum()
        return total

    def loss_sum(self, encoder: Encoder, micro: Batch) -> dict[str, Tensor]:
        frames = encoder.frame_lengths(micro["lengths"])
        valid = valid_mask(frames, int(frames.max())).to(micro["mask"].device, non_blocking=True)
        mask = micro["mask"][:, : valid.shape[1]]
        (hidden,), _ = encoder(micro["waveforms"], micro["lengths"], [encoder.n_layers - 1], mask=mask)
        # Of all frames: to pick the rated ones, the host would wait for the device to count them.
        logits = self.linear(hidden).float()
        clusters = micro["clusters"][:, : valid.shape[1]]
        weights = torch.where(mask, 1.0, self.unmasked_weight * valid)
        return {
            "loss": (weights * functional.cross_entropy(logits.mT, clusters, reduction="none")).sum(),
            "accuracy": (weights * (logits.argmax(-1) == clusters)).sum(),
        }


class MaskedPrediction(SelfSupervised):
    """`ClusterPrediction`, whose settings these are, as an objective; the encoder is usually random, trained whole."""

    loss = ClusterPrediction
