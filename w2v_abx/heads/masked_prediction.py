"""Predict the acoustic cluster of frames that the encoder cannot see.

The first iteration of HuBERT. Hsu et al. (2021), HuBERT: self-supervised speech representation learning by masked
prediction of hidden units.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.data.batch import Batch
from w2v_abx.data.module import ShardDataModule
from w2v_abx.distributed.collectives import agree, current_rank, sum_over_ranks
from w2v_abx.errors import InputError
from w2v_abx.heads.draws import clip_seeds
from w2v_abx.heads.head import States
from w2v_abx.heads.masking import draw_mask
from w2v_abx.heads.selfsupervised import SelfSupervisedHead
from w2v_abx.models.convolutions import valid_mask
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.system import checks

__all__ = ["MaskedPrediction", "change_speed"]


def change_speed(waveforms: Tensor, lengths: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Play clips ``(B, T)`` of ``lengths`` ``factors`` ``(B,)`` times as fast; returns them and their new lengths.

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


class MaskedPrediction(SelfSupervisedHead):
    """Cross-entropy on the masked frames between linear logits of the last layer and k-means clusters of MFCCs.

    The clusters are found when training starts, on ``cluster_clips`` clips. Each clip's coefficients are first brought
    to zero mean and unit variance, which takes most of the voice out of the targets.

    Args:
        clusters: their number.
        cluster_clips: clips that the clusters are found on, those that the first process reads.
        mask_time_prob: proportion of frames in masked spans if spans did not overlap.
        mask_time_length: frames in a span.
        unmasked_weight: weight of a frame that the encoder does see, beside 1 for a masked one.
        speed: each clip is played faster by a factor drawn up to this one, or slower by as much, before the encoder
            hears it: formants, pitch and pace move, its targets do not. 1 leaves clips alone.
        seed: of clusters, masks and speeds; the latter two are, for each clip, a function of it, the step and the key.
        options: see `SelfSupervisedHead`.
    """

    empty = "no clip is long enough for a masked frame"

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        name: str,
        clusters: int = 100,
        cluster_clips: int = 400,
        mask_time_prob: float = 0.65,
        mask_time_length: int = 10,
        unmasked_weight: float = 0.0,
        speed: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(encoder, data, name, **options)
        checks.whole(self.key("clusters"), clusters, 1)
        self.cluster_clips = checks.whole(self.key("cluster_clips"), cluster_clips, 1)
        self.mask_time_prob = checks.number(self.key("mask_time_prob"), mask_time_prob, above=0, high=1)
        self.mask_time_length = checks.whole(self.key("mask_time_length"), mask_time_length, 1)
        self.unmasked_weight = checks.number(self.key("unmasked_weight"), unmasked_weight, low=0)
        self.speed = checks.number(self.key("speed"), speed, low=1)
        self.seed = seed
        self.frequency, self.receptive_field = encoder.frequency, encoder.receptive_field
        self.mfcc = Mfcc()
        self.linear = nn.Linear(encoder.dim, clusters)
        self.centroids: Tensor
        self.register_buffer("centroids", torch.zeros(clusters, self.mfcc.dim))

    def coefficients(self, waveforms: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        """Compute normalised coefficients (B, F, 39) of the clips at the ``times`` (B, F) in seconds."""
        (hidden,), counts = self.mfcc(waveforms, lengths)
        valid = valid_mask(counts, hidden.shape[1]).unsqueeze(-1)
        mean = (hidden * valid).sum(1, keepdim=True) / counts[:, None, None]
        deviation = (((hidden - mean) * valid).square().sum(1, keepdim=True) / counts[:, None, None]).sqrt()
        normal = (hidden - mean) / deviation.clamp(min=1e-5)
        nearest = (times * self.mfcc.frequency).long().clamp(max=hidden.shape[1] - 1)
        return normal.gather(1, nearest[..., None].expand(-1, -1, hidden.shape[2]))

    def frame_times(self, frames: Tensor) -> Tensor:
        """Say when the centres of the encoder's frames are, in seconds, (B, max(frames))."""
        centres = (torch.arange(int(frames.max()), device=frames.device) + 0.5) / self.frequency
        return centres.expand(len(frames), -1)

    def begin(self, encoder: Encoder, batches: Iterable[Batch]) -> None:
        """Find the clusters, unless they are those of a checkpoint; all ranks have those of the first."""
        if self.centroids.any():
            return
        error: InputError | None = None
        if current_rank() == 0:
            try:
                self.centroids.copy_(torch.from_numpy(self._clusters(encoder, batches)))
            except InputError as found:
                error = found
        agree(error)
        self.centroids.copy_(sum_over_ranks(self.centroids))

    def _clusters(self, encoder: Encoder, batches: Iterable[Batch]) -> np.ndarray:
        from sklearn.cluster import MiniBatchKMeans  # a second to import

        device = self.centroids.device
        rows: list[np.ndarray] = []
        clips = 0
        for whole in batches:
            batch = whole.rows(self.concerned(whole))
            if not len(batch):
                continue
            frames = encoder.frame_lengths(batch.lengths)
            times = self.frame_times(frames).to(device)
            features = self.coefficients(batch.waveforms.to(device), batch.lengths.to(device), times)
            rows.append(features[valid_mask(frames, features.shape[1])].cpu().numpy())
            clips += len(batch)
            if clips >= self.cluster_clips:
                break
        frames_seen = np.concatenate([np.empty((0, self.mfcc.dim), np.float32), *rows])
        clusters = len(self.centroids)
        if len(frames_seen) < clusters:
            raise InputError(
                f"{self.key('clusters')}={clusters} is more than the {len(frames_seen)} frames of the clips"
            )
        means = MiniBatchKMeans(clusters, random_state=self.seed, n_init=3, batch_size=4096).fit(frames_seen)
        centres: np.ndarray = means.cluster_centers_
        return centres

    def draw(self, encoder: Encoder, batch: Batch, step: int) -> dict[str, Any]:
        """Draw ``mask`` and find ``clusters``, both (B, F), of ``waveforms`` and ``lengths`` at a drawn speed."""
        device = batch.waveforms.device
        if not len(batch):
            nothing = torch.zeros(0, 0, device=device)
            return {"waveforms": nothing, "lengths": batch.lengths, "mask": nothing.bool(), "clusters": nothing.long()}
        generators = [torch.Generator().manual_seed(seed) for seed in clip_seeds(batch.keys, self.seed, step)]
        spread = 2 * torch.cat([torch.rand(1, generator=generator) for generator in generators]) - 1
        longest = batch.lengths / self.receptive_field  # a frame must be left
        factors = (self.speed**spread).minimum(longest)
        waveforms, lengths = change_speed(batch.waveforms, batch.lengths, factors)
        frames = encoder.frame_lengths(lengths)
        mask = draw_mask(frames, self.mask_time_prob, self.mask_time_length, generators)
        with torch.no_grad():
            times = self.frame_times(frames) * factors[:, None]
            features = self.coefficients(batch.waveforms, batch.lengths, times.to(device, non_blocking=True))
            clusters = torch.cdist(features, self.centroids.expand(len(features), -1, -1)).argmin(-1)
        masked = mask.sum(1)
        return {
            "waveforms": waveforms,
            "lengths": lengths,
            "mask": mask.to(device, non_blocking=True),
            "clusters": clusters,
            "rated": (masked + self.unmasked_weight * (frames - masked)).tolist(),
        }

    def total(self, batch: Batch) -> float:
        return float(sum(batch.extra[self.name].get("rated", ())))

    def encode(self, encoder: Encoder, batch: Batch, layers: Sequence[int]) -> States:
        own = batch.extra[self.name]
        waveforms = own["waveforms"][:, : int(own["lengths"].max())]
        features = encoder(waveforms, own["lengths"], layers, mask=own["mask"])
        return States(dict(zip(layers, features.layers, strict=True)), features.lengths)

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        own, hidden = batch.extra[self.name], self.mixed(states)
        mask, clusters = own["mask"][:, : hidden.shape[1]], own["clusters"][:, : hidden.shape[1]]
        valid = valid_mask(states.frames, hidden.shape[1])
        # Of all frames: to pick the rated ones, the host would wait for the device to count them.
        logits = self.linear(hidden).float()
        weights = torch.where(mask, 1.0, self.unmasked_weight * valid)
        return {
            "loss": (weights * functional.cross_entropy(logits.mT, clusters, reduction="none")).sum(),
            "accuracy": (weights * (logits.argmax(-1) == clusters)).sum(),
        }
