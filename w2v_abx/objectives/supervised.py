"""Fine-tuning under labels: an encoder and any set of heads."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from w2v_abx.data import ShardDataModule
from w2v_abx.encoder import Encoder
from w2v_abx.heads import Multilabel
from w2v_abx.microbatch import Batch, ElasticModule
from w2v_abx.objectives.optimization import Optimization

__all__ = ["Supervised"]


class Supervised(ElasticModule):
    """Heads on the encoder's last layer, their losses weighted and summed.

    Args:
        encoder: trains as it was loaded to.
        data: the prepared corpus; its labels give the heads their categories, and it is told the heads' targets.
        heads: makes each head, by name, from the encoder's ``dim`` and the corpus's ``categories`` of a label.
        optimization: optimiser and schedule.
        microbatch: clips run at once, ``None`` for the whole batch.
        gradient_clip_norm: largest gradient norm of a step, ``None`` for any.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        heads: Mapping[str, Callable[..., Multilabel]],
        optimization: Optimization,
        microbatch: int | None = None,
        gradient_clip_norm: float | None = None,
    ) -> None:
        super().__init__(microbatch, gradient_clip_norm)
        self.encoder = encoder
        self.optimization = optimization
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
        self.predictions: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.head_metrics: dict[str, dict[str, Any]] = {}

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Every head's output on the batch."""
        hidden, lengths = self.encoder(batch["waveforms"], batch["lengths"], [self.encoder.n_layers - 1])
        return {name: head(hidden[0], lengths) for name, head in self.heads.items()}

    def loss_sum(self, micro: Batch) -> dict[str, Tensor]:
        sums = {
            name: self.heads[name].loss_sum(logits, micro["targets"][name])  # type: ignore[operator]
            for name, logits in self.logits(micro).items()
        }
        total = torch.stack([self.heads[name].weight * loss for name, loss in sums.items()]).sum()
        parts = {f"{name}_loss": loss for name, loss in sums.items()} if len(sums) > 1 else {}
        return {"loss": total, **parts}

    def on_validation_epoch_start(self) -> None:
        self.predictions = {name: [] for name in self.heads}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        size = len(batch["keys"])
        for name, logits in self.logits(batch).items():
            target = batch["targets"][name]
            loss = self.heads[name].loss_sum(logits, target) / size  # type: ignore[operator]
            self.log(f"valid/{name}_loss", loss, batch_size=size)
            self.predictions[name].append((logits.float().cpu(), target.cpu()))

    def on_validation_epoch_end(self) -> None:
        for name, pairs in self.predictions.items():
            logits, targets = (torch.cat(column) for column in zip(*pairs, strict=True))
            self.head_metrics[name] = self.heads[name].metrics(logits, targets)  # type: ignore[operator]
            for metric in ("map", "macro_auc"):
                if (value := self.head_metrics[name][metric]) is not None:
                    self.log(f"valid/{name}_{metric}", value, prog_bar=True)
        self.predictions = {}

    def configure_optimizers(self) -> Any:
        return self.optimization.configure(self)
