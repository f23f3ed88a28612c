"""Self-supervised: tell the quantised frame under a mask from others of its clip (wav2vec 2.0).

Baevski et al. (2020), wav2vec 2.0: a framework for self-supervised learning of speech representations.
"""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.distributed.collectives import sum_over_ranks, world_size
from w2v_abx.errors import InputError
from w2v_abx.heads.convolved import convolved_frames
from w2v_abx.heads.draws import draw
from w2v_abx.heads.pretrained import take_over
from w2v_abx.heads.quantizer import Quantizer, diversity, diversity_gradient, gumbel_noise, usage_sum
from w2v_abx.models.convolutions import valid_mask
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import Batch
from w2v_abx.training.selfsupervised import SelfSupervision

__all__ = ["Contrastive"]

PIECE = 16 * SAMPLE_RATE  # samples at once, padding counted, where the usage of the codebooks is found
PLACED = ("waveforms", "lengths", "places", "counts")  # of a batch: the rated frames
SIZES = {  # of a quantiser: their names in a config.json, and what they are where it does not say
    "groups": ("num_codevector_groups", 2),
    "entries": ("num_codevectors_per_group", 320),
    "codevector_dim": ("codevector_dim", 256),
    "projection_dim": ("proj_codevector_dim", 256),
}


class Contrastive(SelfSupervision):
    """The loss of wav2vec 2.0: which quantised frame lies under the mask, and codebooks that are used evenly.

    Of each masked frame the encoder's last layer must be closer (cosine) to the frame's own quantised convolutional
    output than to that of ``num_negatives`` other masked frames of its clip; those that happen to be quantised alike do
    not count. The diversity loss is that of the softmax over entries averaged over all masked frames of the effective
    batch, on all ranks, however it is split: its gradient needs that average alone, which a pass of the convolutions
    without gradient finds first where the batch is split.

    What is drawn for a clip (mask, negatives, Gumbel noise) is a function of ``seed``, the step and its key. Of clips
    with fewer than two masked frames nothing is asked.

    Args:
        encoder: of any of the families. Where its blocks end in a layer norm of their own, that trains with the last.
        source: the checkpoint with the quantiser and the projections, in the layout of Hugging Face's
            ``Wav2Vec2ForPreTraining``; what it lacks, or all without a checkpoint, is drawn from ``seed``.
        revision: a commit or tag of the hub.
        groups, entries: codebooks, and vectors in each. ``None``, here and next: as the encoder's config.json says.
        codevector_dim: values of a quantised frame.
        projection_dim: values of what is compared.
        mask_share: share of frames in masked spans if spans did not overlap.
        mask_span: frames in a span.
        num_negatives: negatives of each masked frame.
        contrast_temperature: what cosines are divided by.
        gumbel_start, gumbel_decay, gumbel_floor: temperature of the Gumbel softmax at step n: start · decay ** n, but
            at least the floor.
        diversity_weight: of the diversity loss beside the contrastive one.
        feature_penalty: weight of the mean square of the convolutions' output.
        extractor_gradient: what the gradient that enters the convolutions is multiplied by.
        feature_dropout: of what the quantiser sees; ``None``: as the encoder's config.json says.
        seed: of all that is drawn, and of new parameters.

    Raises:
        InputError: values out of range, and sizes other than those of the checkpoint's quantiser.
    """

    def __init__(
        self,
        encoder: Encoder,
        source: str | Path | Mapping[str, Any] | None = None,
        revision: str | None = None,
        groups: int | None = None,
        entries: int | None = None,
        codevector_dim: int | None = None,
        projection_dim: int | None = None,
        mask_share: float = 0.65,
        mask_span: int = 10,
        num_negatives: int = 100,
        contrast_temperature: float = 0.1,
        gumbel_start: float = 2.0,
        gumbel_decay: float = 0.999995,
        gumbel_floor: float = 0.5,
        diversity_weight: float = 0.1,
        feature_penalty: float = 10.0,
        extractor_gradient: float = 0.1,
        feature_dropout: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(encoder)
        config = encoder.model.config
        given = {"groups": groups, "entries": entries, "codevector_dim": codevector_dim}
        given["projection_dim"] = projection_dim
        self.sizes: dict[str, int] = {
            name: getattr(config, *SIZES[name]) if value is None else value for name, value in given.items()
        }
        dropout = getattr(config, "feat_quantizer_dropout", 0.0) if feature_dropout is None else feature_dropout
        for name, value in {**self.sizes, "mask_span": mask_span, "num_negatives": num_negatives}.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 15:
                raise InputError(f"objective.{name}={value} must be a whole number from 1 to {(1 << 15) - 1}")
        for name, number, fine, range_ in (
            ("mask_share", mask_share, 0 < mask_share <= 1, "lie in (0, 1]"),
            ("contrast_temperature", contrast_temperature, 0 < contrast_temperature < math.inf, "be above 0"),
            ("gumbel_start", gumbel_start, 0 < gumbel_start < math.inf, "be above 0"),
            ("gumbel_decay", gumbel_decay, 0 < gumbel_decay <= 1, "lie in (0, 1]"),
            ("gumbel_floor", gumbel_floor, 0 < gumbel_floor <= gumbel_start, "be above 0 and at most gumbel_start"),
            ("diversity_weight", diversity_weight, 0 <= diversity_weight < math.inf, "be 0 or more"),
            ("feature_penalty", feature_penalty, 0 <= feature_penalty < math.inf, "be 0 or more"),
            ("extractor_gradient", extractor_gradient, 0 <= extractor_gradient <= 1, "lie from 0 to 1"),
            ("feature_dropout", dropout, 0 <= dropout < 1, "be a probability from 0 to below 1"),
        ):
            if not fine:
                raise InputError(f"objective.{name}={number} must {range_}")
        if self.sizes["codevector_dim"] % self.sizes["groups"]:
            raise InputError(
                f"objective.codevector_dim={self.sizes['codevector_dim']} must be a multiple of "
                f"objective.groups={self.sizes['groups']}"
            )
        self.draws = {"mask_share": mask_share, "mask_span": mask_span, "num_negatives": num_negatives, "seed": seed}
        self.contrast_temperature = contrast_temperature
        self.gumbel_start, self.gumbel_decay, self.gumbel_floor = gumbel_start, gumbel_decay, gumbel_floor
        self.diversity_weight, self.feature_penalty = diversity_weight, feature_penalty
        self.extractor_gradient = extractor_gradient
        self.dropout = nn.Dropout(dropout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            size = self.sizes
            self.quantizer = Quantizer(config.conv_dim[-1], size["groups"], size["entries"], size["codevector_dim"])
            self.project_hid = nn.Linear(encoder.dim, size["projection_dim"])
            self.project_q = nn.Linear(size["codevector_dim"], size["projection_dim"])
        self.taken_over = take_over(self, source, revision, otherwise=f"drawn anew, from seed {seed}")
        blocks = encoder.model.encoder
        if config.do_stable_layer_norm and all(weight.requires_grad for weight in blocks.layers[-1].parameters()):
            blocks.layer_norm.requires_grad_(True)  # no feature depends on it, but this loss does

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        """Adds what is drawn for each clip (see `w2v_abx.heads.draws`) and what the loss needs of all of them.

        ``share`` is that of the rated frames in all, ``usage`` finds the `usage_sum` of the batch, which a piece of
        ``undivided`` clips has itself.
        """
        device = batch["waveforms"].device
        frames = encoder.frame_lengths(batch["lengths"].cpu())
        drawn = draw(batch["keys"], frames, step=step, **self.draws)  # type: ignore[arg-type]
        prepared = {
            **batch,
            "mask": drawn.mask.to(device, non_blocking=True),
            "places": drawn.places.to(device, non_blocking=True),
            "negatives": drawn.negatives.to(device, non_blocking=True),
            "counts": drawn.counts,
            "seeds": drawn.seeds,
            "temperature": max(self.gumbel_floor, self.gumbel_start * self.gumbel_decay ** max(0, step)),
        }
        rated, total = float(sum(drawn.counts)), float(frames.sum())
        usage = functools.partial(self._usage, encoder, {name: prepared[name] for name in PLACED})
        if self.training and world_size() > 1:
            # Now, with all ranks: later they may do different things.
            everywhere, rated, total = sum_over_ranks(usage()), sum_over_ranks(rated), sum_over_ranks(total)
            return {**prepared, "share": rated / max(1.0, total), "usage": lambda: everywhere, "undivided": None}
        return {
            **prepared,
            "share": rated / max(1.0, total),
            "usage": functools.cache(usage),
            "undivided": len(batch["keys"]),
        }

    def normaliser(self, batch: Batch) -> float:
        return float(sum(batch["counts"]))

    def loss_sum(self, encoder: Encoder, micro: Batch) -> dict[str, Tensor]:
        rated = float(sum(micro["counts"]))
        places, inside = self._rated(micro)
        with convolved_frames(encoder) as heard:
            (hidden,), counts = encoder(
                micro["waveforms"], micro["lengths"], [encoder.n_layers - 1], mask=micro["mask"]
            )
        ((convolved, projected),) = heard
        if convolved.requires_grad and self.extractor_gradient != 1:
            convolved.register_hook(lambda gradient: self.extractor_gradient * gradient)
        quantized = _at(projected, places)
        logits = self.quantizer.logits(self.dropout(quantized))
        if encoder.model.config.do_stable_layer_norm:
            predicted = encoder.model.encoder.layer_norm(_at(hidden, places))
        else:
            predicted = _at(hidden, places)
        device = convolved.device
        with torch.autocast(device.type, enabled=False):
            noise = self._noise(micro, inside) if self.training else None
            vectors, codes = self.quantizer(logits, micro["temperature"], noise)
        predicted, target = self.project_hid(predicted).float(), self.project_q(vectors).float()
        with torch.autocast(device.type, enabled=False):
            negatives = micro["negatives"][:, : places.shape[1], : places.shape[1]]
            contrastive, correct = self._contrast(predicted, target, codes, negatives, inside)
        with torch.no_grad():  # without dropout, as the pass before a step that is divided has it
            plain = self.quantizer.logits(quantized) if self.training and self.dropout.p else logits
            own = usage_sum(plain, inside)
        valid = valid_mask(counts, convolved.shape[1])
        penalised = convolved if self.feature_penalty else convolved.detach()
        squares = penalised.float().square().mean(2).masked_fill(~valid, 0.0).sum()
        if not self.training:  # the rest follows from what all batches have: see `summary`
            return {
                "contrastive": contrastive,
                "accuracy": correct,
                "usage": own,
                "squares": squares,
                "frames": counts.sum(),
            }
        usage = own if micro["undivided"] == len(micro["keys"]) else micro["usage"]()
        usage = usage / usage[1, 0].sum().clamp(min=1)
        perplexity, uneven = diversity(usage[0])
        # The value is that of the whole batch, the gradient this piece's part of it.
        linear = ((logits.softmax(-1) * diversity_gradient(usage[0])).sum((2, 3)) * inside).sum()
        evenness = linear - linear.detach() + rated * uneven
        penalty = micro["share"] * squares
        loss = contrastive + self.diversity_weight * evenness + self.feature_penalty * penalty
        return {
            "loss": loss,
            "contrastive": contrastive,
            "diversity": evenness,
            "penalty": penalty,
            "accuracy": correct,
            "perplexity": rated * perplexity,
            "code_perplexity": rated * diversity(usage[1])[0],
            "temperature": torch.full((), rated * micro["temperature"], device=device),
        }

    def summary(self, sums: Mapping[str, Tensor], normaliser: Tensor) -> dict[str, Tensor]:
        usage = sums["usage"] / normaliser
        perplexity, uneven = diversity(usage[0])
        contrastive, penalty = sums["contrastive"] / normaliser, sums["squares"] / sums["frames"]
        return {
            "loss": contrastive + self.diversity_weight * uneven + self.feature_penalty * penalty,
            "contrastive": contrastive,
            "diversity": uneven,
            "penalty": penalty,
            "accuracy": sums["accuracy"] / normaliser,
            "perplexity": perplexity,
            "code_perplexity": diversity(usage[1])[0],
        }

    def _contrast(
        self, predicted: Tensor, target: Tensor, codes: Tensor, negatives: Tensor, inside: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy summed over the frames ``inside`` ``(B, M, D)``, and how many are told from their negatives.

        A frame whose negatives are all quantised as it is adds nothing to either.
        """
        cosines = functional.normalize(predicted, dim=-1, eps=1e-8) @ functional.normalize(target, dim=-1, eps=1e-8).mT
        logits = cosines / self.contrast_temperature
        positive = logits.diagonal(dim1=1, dim2=2)
        other = (negatives > 0) & (codes[:, :, None] != codes[:, None]).any(-1)
        self_ = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        # One that was drawn n times counts n times. Every frame is also compared with itself, once.
        weighed = (logits + (negatives + self_).log()).masked_fill(~(other | self_), -math.inf)
        best = logits.masked_fill(~other, -math.inf).amax(-1)
        correct = (positive > best) & other.any(-1)
        return (weighed.logsumexp(-1) - positive).masked_fill(~inside, 0.0).sum(), correct.sum()

    @torch.no_grad()
    def _usage(self, encoder: Encoder, batch: Batch) -> Tensor:
        """How often the entries are used at the rated frames of a prepared batch, as `usage_sum`."""
        lengths: list[int] = batch["lengths"].tolist()
        total = torch.zeros(2, self.quantizer.groups, self.quantizer.entries, device=batch["waveforms"].device)
        start = 0
        while start < len(lengths):
            stop = start + 1
            while stop < len(lengths) and (stop + 1 - start) * max(lengths[start : stop + 1]) <= PIECE:
                stop += 1
            piece = {name: batch[name][start:stop] for name in PLACED}
            places, inside = self._rated(piece)
            with convolved_frames(encoder) as heard:
                encoder(piece["waveforms"][:, : max(lengths[start:stop])], piece["lengths"], [0])
            total += usage_sum(self.quantizer.logits(_at(heard[0][1], places)), inside)
            start = stop
        return total

    def _rated(self, micro: Batch) -> tuple[Tensor, Tensor]:
        """The places ``(B, M)`` of the rated frames, and which of them are those of frames, not filled up."""
        most = max([1, *micro["counts"]])
        places: Tensor = micro["places"][:, :most]
        counts = torch.tensor(micro["counts"]).to(places.device, non_blocking=True)
        return places, valid_mask(counts, most)

    def _noise(self, micro: Batch, inside: Tensor) -> Tensor:
        shape = (self.quantizer.groups, self.quantizer.entries)
        noise = torch.zeros(*inside.shape, *shape, device=inside.device)
        for row, seed, count in zip(noise, micro["seeds"], micro["counts"], strict=True):
            row[:count] = gumbel_noise(seed, (count, *shape), noise.device)
        return noise


def _at(frames: Tensor, places: Tensor) -> Tensor:
    """Frames ``(B, F, C)`` at places ``(B, M)``."""
    return frames[torch.arange(len(frames), device=frames.device)[:, None], places]
