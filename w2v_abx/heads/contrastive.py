"""Tell the quantised frame under a mask from others of its clip: the loss of wav2vec 2.0.

Baevski et al. (2020), wav2vec 2.0: a framework for self-supervised learning of speech representations.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from w2v_abx.data.batch import Batch, Whole
from w2v_abx.data.module import ShardDataModule
from w2v_abx.distributed.collectives import sum_over_ranks
from w2v_abx.heads import pretrained
from w2v_abx.heads.convolved import captured_convolutions
from w2v_abx.heads.coupled import CoupledHead
from w2v_abx.heads.draws import draw
from w2v_abx.heads.head import States
from w2v_abx.heads.quantizer import (
    CONFIG_NAMES,
    GumbelTemperature,
    Quantizer,
    QuantizerSizes,
    diversity,
    gumbel_noise,
    usage_sum,
)
from w2v_abx.heads.selfsupervised import SelfSupervisedHead
from w2v_abx.models.convolutions import valid_mask
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import checks

__all__ = ["Contrastive"]

MOST_COUNT = (1 << 15) - 1  # numbers of frames and negatives, which are kept in 16 bits


class Contrastive(SelfSupervisedHead, CoupledHead):
    """The loss of wav2vec 2.0: which quantised frame lies under the mask, and codebooks that are used evenly.

    Of each masked frame the encoder's last layer must be closer (cosine) to the frame's own quantised convolutional
    output than to that of ``num_negatives`` other masked frames of its clip; those that happen to be quantised alike do
    not count. The diversity loss is that of the softmax over entries averaged over all masked frames of the effective
    batch, on all ranks, however it is split.

    What is drawn for a clip (mask, negatives, Gumbel noise) is a function of ``seed``, the step and its key. Of clips
    with fewer than two masked frames nothing is asked.

    Args:
        encoder: of any of the families. Where its blocks end in a layer norm of their own, that trains with the last.
        source: the checkpoint with the quantiser and the projections, in the layout of Hugging Face's
            ``Wav2Vec2ForPreTraining``; what it lacks, or all without a checkpoint, is drawn from ``seed``.
        revision: a commit or tag of the hub.
        folder: where the whole model goes when training ends, with the quantiser and the projections, as
            ``Wav2Vec2ForPreTraining.from_pretrained`` loads it; None: nowhere.
        sizes: of quantiser and projections.
        mask_time_prob: proportion of frames in masked spans if spans did not overlap.
        mask_time_length: frames in a span.
        num_negatives: negatives of each masked frame.
        contrast_temperature: what cosines are divided by.
        gumbel: temperature of the Gumbel softmax.
        diversity_weight: of the diversity loss beside the contrastive one.
        feature_penalty: weight of the mean square of the convolutions' output.
        extractor_gradient: what the gradient that enters the convolutions is multiplied by.
        feature_dropout: of what the quantiser sees; None: as the encoder's config.json says.
        seed: of all that is drawn, and of new parameters.
        options: see `SelfSupervisedHead`.

    Raises:
        InputError: values out of range, and sizes other than those of the checkpoint's quantiser.
    """

    empty = (
        "no clip of the batch has two masked frames, of which one could be the negative of the other: raise its "
        "mask_time_prob or mask_time_length, or take longer clips (data.crop_seconds)"
    )

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        name: str,
        source: str | Path | Mapping[str, Any] | None = None,
        revision: str | None = None,
        folder: Path | str | None = None,
        sizes: QuantizerSizes | None = None,
        mask_time_prob: float = 0.65,
        mask_time_length: int = 10,
        num_negatives: int = 100,
        contrast_temperature: float = 0.1,
        gumbel: GumbelTemperature | None = None,
        diversity_weight: float = 0.1,
        feature_penalty: float = 10.0,
        extractor_gradient: float = 0.1,
        feature_dropout: float | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(encoder, data, name, **options)
        config = encoder.model.config
        self.folder = None if folder is None else Path(folder)
        self.sizes = (sizes or QuantizerSizes()).of(config, self.key("sizes"))
        self.gumbel = gumbel or GumbelTemperature()
        self.gumbel.check(self.key("gumbel"))
        dropout = getattr(config, "feat_quantizer_dropout", 0.0) if feature_dropout is None else feature_dropout
        self.draws: dict[str, Any] = {
            "mask_time_prob": checks.number(self.key("mask_time_prob"), mask_time_prob, above=0, high=1),
            "mask_time_length": checks.whole(self.key("mask_time_length"), mask_time_length, 1, MOST_COUNT),
            "num_negatives": checks.whole(self.key("num_negatives"), num_negatives, 1, MOST_COUNT),
            "seed": seed,
        }
        self.contrast_temperature = checks.number(self.key("contrast_temperature"), contrast_temperature, above=0)
        self.diversity_weight = checks.number(self.key("diversity_weight"), diversity_weight, low=0)
        self.feature_penalty = checks.number(self.key("feature_penalty"), feature_penalty, low=0)
        self.extractor_gradient = checks.number(self.key("extractor_gradient"), extractor_gradient, low=0, high=1)
        self.dropout = nn.Dropout(checks.number(self.key("feature_dropout"), dropout, low=0, below=1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            size = self.sizes
            self.quantizer = Quantizer(config.conv_dim[-1], size["groups"], size["entries"], size["codevector_dim"])
            self.project_hid = nn.Linear(encoder.dim, size["projection_dim"])
            self.project_q = nn.Linear(size["codevector_dim"], size["projection_dim"])
        self.from_checkpoint = pretrained.load(
            self, source, revision, key=self.key(""), otherwise=f"drawn anew, from seed {seed}"
        )
        blocks = encoder.model.encoder
        if config.do_stable_layer_norm and all(weight.requires_grad for weight in blocks.layers[-1].parameters()):
            blocks.layer_norm.requires_grad_(True)  # no feature depends on it, but this loss does

    def draw(self, encoder: Encoder, batch: Batch, step: int) -> dict[str, Any]:
        """Draw masks, places of rated frames, negatives and noise: see `w2v_abx.heads.draws`."""
        device = batch.waveforms.device
        frames = encoder.frame_lengths(batch.lengths)
        drawn = draw(batch.keys, frames, step=step, **self.draws)
        return {
            "mask": drawn.mask.to(device, non_blocking=True),
            "places": drawn.places.to(device, non_blocking=True),
            "negatives": drawn.negatives.to(device, non_blocking=True),
            "counts": drawn.counts,
            "seeds": drawn.seeds,
            "frames": frames.tolist(),
            "temperature": Whole(self.gumbel.at(step)),
        }

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        batch = super().prepare(encoder, batch, step)
        own = batch.extra[self.name]
        rated, frames = float(sum(own["counts"])), float(sum(own["frames"]))
        if self.training:
            rated, frames = sum_over_ranks(rated), sum_over_ranks(frames)
        return batch.with_extra(**{self.name: {**own, "rated_share": Whole(rated / max(1.0, frames))}})

    def total(self, batch: Batch) -> float:
        """Count the rated frames."""
        return float(sum(batch.extra[self.name]["counts"]))

    def first_pass(self, encoder: Encoder, batch: Batch) -> States:
        """Run the convolutions alone: codebooks are used as they say."""
        with captured_convolutions(encoder) as captured:
            features = encoder(batch.waveforms, batch.lengths, [0])
        return States({}, features.lengths, {"projected": captured[0][1]})

    def encode(self, encoder: Encoder, batch: Batch, layers: Sequence[int]) -> States:
        with captured_convolutions(encoder) as captured:
            features = encoder(batch.waveforms, batch.lengths, layers, mask=batch.extra[self.name]["mask"])
        hidden = features.layers
        if encoder.model.config.do_stable_layer_norm:
            hidden = [encoder.model.encoder.layer_norm(layer) for layer in hidden]
        ((convolved, projected),) = captured
        kept = {"convolved": convolved, "projected": projected}
        return States(dict(zip(layers, hidden, strict=True)), features.lengths, kept)

    def embed(self, states: States, batch: Batch) -> Tensor:
        """Sum how often each entry of the codebooks is used at each clip's rated frames: (B, 2, G, V)."""
        places, inside = self._rated(batch)
        return usage_sum(self.quantizer.logits(_at(states.captured["projected"], places)), inside)

    def batch_loss(self, embeddings: Tensor) -> dict[str, Tensor]:
        usage = embeddings.sum(0)
        rated = usage[1, 0].sum().detach()
        usage = usage / rated.clamp(min=1)
        perplexity, uneven = diversity(usage[0])
        return {
            "loss": self.diversity_weight * rated * uneven,
            "diversity": rated * uneven,
            "perplexity": rated * perplexity,
            "code_perplexity": rated * diversity(usage[1])[0],
        }

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        own, convolved = batch.extra[self.name], states.captured["convolved"]
        places, inside = self._rated(batch)
        if convolved.requires_grad and self.extractor_gradient != 1:
            convolved.register_hook(lambda gradient: self.extractor_gradient * gradient)
        logits = self.quantizer.logits(self.dropout(_at(states.captured["projected"], places)))
        predicted = self.project_hid(_at(self.mixed(states), places)).float()
        device = convolved.device
        with torch.autocast(device.type, enabled=False):
            noise = self._noise(own, inside) if self.training else None
            vectors, codes = self.quantizer(logits, own["temperature"].value, noise)
        target = self.project_q(vectors).float()
        with torch.autocast(device.type, enabled=False):
            negatives = own["negatives"][:, : places.shape[1], : places.shape[1]]
            contrastive, correct = self._contrast(predicted, target, codes, negatives, inside)
        valid = valid_mask(states.frames, convolved.shape[1])
        penalised = convolved if self.feature_penalty else convolved.detach()
        squares = penalised.float().square().mean(2).masked_fill(~valid, 0.0).sum()
        sums = {"contrastive": contrastive, "accuracy": correct}
        usage = usage_sum(logits, inside)
        if self.training and self.dropout.p:
            # Codebooks are used as they are without dropout, which the first pass of a divided step leaves out, too.
            with torch.no_grad():
                plain = self.embed(states, batch)
            usage = plain + usage - usage.detach()
        if not self.training:  # the rest follows from what all batches have: see `summary`
            return {**sums, "usage": usage.sum(0), "squares": squares, "frames": states.frames.sum()}
        coupled = self.coupled(usage, batch)
        penalty = own["rated_share"].value * squares
        temperature = torch.full((), own["temperature"].value * sum(own["counts"]), device=device)
        loss = contrastive + coupled["loss"] + self.feature_penalty * penalty
        return {**coupled, **sums, "loss": loss, "penalty": penalty, "temperature": temperature}

    def summary(self, sums: Mapping[str, Tensor], total: float) -> dict[str, Tensor]:
        usage = sums["usage"] / total
        perplexity, uneven = diversity(usage[0])
        contrastive, penalty = sums["contrastive"] / total, sums["squares"] / sums["frames"]
        return {
            "loss": contrastive + self.diversity_weight * uneven + self.feature_penalty * penalty,
            "contrastive": contrastive,
            "diversity": uneven,
            "penalty": penalty,
            "accuracy": sums["accuracy"] / total,
            "perplexity": perplexity,
            "code_perplexity": diversity(usage[1])[0],
        }

    def finish(self, encoder: Encoder) -> None:
        """Write the whole model to ``folder``, from which the next run can go on."""
        if self.folder is not None:
            sizes = {theirs: self.sizes[name] for name, (theirs, _) in CONFIG_NAMES.items()}
            pretrained.save(encoder, self, sizes, self.folder)

    def _contrast(
        self, predicted: Tensor, target: Tensor, codes: Tensor, negatives: Tensor, inside: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the cross-entropy over the frames ``inside`` (B, M, D), and count those told from their negatives.

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

    def _rated(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Find the places (B, M) of the rated frames, and which of them are those of frames, not filled up."""
        own = batch.extra[self.name]
        most = max([1, *own["counts"]])
        places: Tensor = own["places"][:, :most]
        counts = torch.tensor(own["counts"]).to(places.device, non_blocking=True)
        return places, valid_mask(counts, most)

    def _noise(self, own: Mapping[str, Any], inside: Tensor) -> Tensor:
        shape = (self.quantizer.groups, self.quantizer.entries)
        noise = torch.zeros(*inside.shape, *shape, device=inside.device)
        for row, seed, count in zip(noise, own["seeds"], own["counts"], strict=True):
            row[:count] = gumbel_noise(seed, (count, *shape), noise.device)
        return noise


def _at(frames: Tensor, places: Tensor) -> Tensor:
    """Frames ``(B, F, C)`` at places ``(B, M)``."""
    return frames[torch.arange(len(frames), device=frames.device)[:, None], places]
