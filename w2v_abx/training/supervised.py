"""Fine-tuning under labels: an encoder and any set of heads."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from w2v_abx.data import ShardDataModule
from w2v_abx.distributed.collectives import gather_rows, sum_over_ranks
from w2v_abx.errors import InputError
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.heads.replay import Replay, take, unlabelled
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import Batch, ElasticModule
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.selfsupervised import training_batches
from w2v_abx.training.specaugment import SpecAugment

__all__ = ["METRICS", "Supervised"]

METRICS = ("map", "macro_auc")  # of a head, logged after a validation beside its loss


class Supervised(ElasticModule):
    """Heads on the encoder's last layer, their losses weighted and summed.

    Args:
        encoder: trains as it was loaded to.
        data: the prepared corpus; its labels give the heads their categories, and it is told the heads' targets.
        heads: makes each head, by name, from the encoder's ``dim`` and the corpus's ``categories`` of a label.
        optimization: optimiser and schedule.
        masking: frames and channels to hide in training; ``None`` for none.
        replay: makes, from the encoder and the data, what is asked of clips without labels; ``None``: there are none.
        microbatch, gradient_clip_norm, microbatch_seconds, microbatch_grow_after: see `w2v_abx.training.microbatch`.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        heads: Mapping[str, Callable[..., Multilabel]],
        optimization: Optimization,
        masking: SpecAugment | None = None,
        replay: Callable[..., Replay] | None = None,
        microbatch: int | Literal["auto"] | None = None,
        gradient_clip_norm: float | None = None,
        microbatch_seconds: float | None = None,
        microbatch_grow_after: int | None = None,
    ) -> None:
        super().__init__(microbatch, gradient_clip_norm, microbatch_seconds, microbatch_grow_after)
        self.encoder = encoder
        self.optimization = optimization
        self.masking = masking
        if masking is not None:
            masking.check(encoder)
        data.manifest.of("valid")  # without it there is nothing to rate the heads on
        made = {name: make(dim=encoder.dim, categories=data.categories) for name, make in heads.items()}
        self.heads = nn.ModuleDict(made)
        data.targets = dict(made)
        for name, head in made.items():
            if unseen := sorted(set(data.categories(head.target, None)) - set(head.categories)):
                warnings.warn(
                    f"the head {name!r} cannot learn {', '.join(unseen)}: only held-out clips carry it",
                    stacklevel=2,
                )
        self.unlabelled = set(unlabelled(data))
        if self.unlabelled and replay is None:
            raise InputError(
                f"the clips of data.mix.{min(self.unlabelled)} have no targets, and no loss asks for none: give "
                f"objective=multilabel_replay, or data.mix.{min(self.unlabelled)}.targets=true if their labels are of "
                f"the same kind"
            )
        self.replay = None if replay is None else replay(encoder=encoder, data=data)
        self.predictions: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.head_metrics: dict[str, dict[str, Any]] = {}

    def on_fit_start(self) -> None:
        if self.replay is None:
            return
        if isinstance(self.encoder, FSDPModule):
            raise InputError(
                "objective.replay does not go with trainer=fsdp, where all processes run the encoder as many times: "
                "take trainer=ddp"
            )
        self.replay.begin(self.encoder, training_batches(self.trainer))

    def prepare(self, batch: Batch) -> Batch:
        if self.replay is not None:
            clips, labelled = float(len(batch["keys"])), float(len(self.labelled(batch)))
            scale = sum_over_ranks(clips) / max(1.0, sum_over_ranks(labelled))
            batch = self.replay.prepare(self.encoder, batch, self.global_step) | {"labelled_scale": scale}
        if self.masking is None:
            return batch
        frames = self.encoder.frame_lengths(batch["lengths"]).cpu()
        masks = self.masking.draw(batch["keys"], frames, self.encoder.dim, self.global_step)
        return batch | {name: mask.to(self.device, non_blocking=True) for name, mask in masks.items()}

    def labelled(self, batch: Batch) -> list[int]:
        """Which clips of a batch have targets."""
        return [row for row, name in enumerate(batch["corpora"]) if name not in self.unlabelled]

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Every head's output on the batch."""
        layer, masks = self.encoder.n_layers - 1, (batch.get("time_mask"), batch.get("feature_mask"))
        hidden, lengths = self.encoder(batch["waveforms"], batch["lengths"], [layer], *masks)
        return {name: head(hidden[0], lengths) for name, head in self.heads.items()}

    def loss_sum(self, micro: Batch) -> dict[str, Tensor]:
        if self.replay is None:
            return self.heads_loss(micro)
        # All is divided by the number of all clips; each loss is scaled to be the mean over its own.
        replayed = self.replay.loss_sum(self.encoder, micro)
        rows = self.labelled(micro)
        heads = self.heads_loss(take(micro, rows)) if rows else {}
        parts = {name: micro["labelled_scale"] * value for name, value in heads.items()}
        losses = [parts.pop("loss")] if rows else []
        if replayed:
            losses.append(self.replay.weight * replayed["loss"])
        return {"loss": torch.stack(losses).sum(), **parts, **{f"replay_{name}": v for name, v in replayed.items()}}

    def heads_loss(self, micro: Batch) -> dict[str, Tensor]:
        """The heads' losses summed over clips that have targets."""
        sums = {
            name: self.heads[name].loss_sum(logits, micro["targets"][name])  # type: ignore[operator]
            for name, logits in self.logits(micro).items()
        }
        total = torch.stack([self.heads[name].weight * loss for name, loss in sums.items()]).sum()
        parts = {f"{name}_loss": loss for name, loss in sums.items()} if len(sums) > 1 or self.replay else {}
        return {"loss": total, **parts}

    def on_validation_epoch_start(self) -> None:
        self.predictions = {name: [] for name in self.heads}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        size = len(batch["keys"])
        parts = self.in_pieces(batch, self.logits)
        for name in self.heads:
            logits, target = torch.cat([part[name] for part in parts]), batch["targets"][name]
            loss = self.heads[name].loss_sum(logits, target) / size  # type: ignore[operator]
            self.log(f"valid/{name}_loss", loss, batch_size=size, sync_dist=True)
            self.predictions[name].append((logits.float().cpu(), target.cpu()))

    def on_validation_epoch_end(self) -> None:
        for name, pairs in self.predictions.items():
            logits, targets = (gather_rows(torch.cat(column)) for column in zip(*pairs, strict=True))
            self.head_metrics[name] = self.heads[name].metrics(logits, targets)  # type: ignore[operator]
            for metric in METRICS:
                if (value := self.head_metrics[name][metric]) is not None:
                    self.log(f"valid/{name}_{metric}", value, prog_bar=True, sync_dist=True)
        self.predictions = {}

    def configure_optimizers(self) -> Any:
        return self.optimization.configure(self)
