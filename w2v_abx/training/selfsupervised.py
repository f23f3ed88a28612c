"""Training without labels: an encoder, and what it is asked about its own input."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import lightning
import torch
import torch.distributed as dist
from torch import Tensor, nn

from w2v_abx.data import ShardDataModule
from w2v_abx.distributed.collectives import sum_over_ranks, world_size
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import Batch, ElasticModule
from w2v_abx.training.optimization import Optimization

__all__ = ["SelfSupervised", "SelfSupervision", "rank", "training_batches"]

NORMALISER = "normaliser"
VALIDATION = -1  # the "step" of all validation: what is drawn for a clip is the same each time


def rank() -> int:
    """This process's number among those that train together."""
    return dist.get_rank() if world_size() > 1 else 0


def training_batches(trainer: lightning.Trainer) -> Iterator[Batch]:
    """Those of the trainer's data module, which is asked when the first of them is."""
    yield from trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]


class SelfSupervision(nn.Module):
    """A loss that needs no labels, with the parameters it has beside the encoder's.

    The encoder is handed to each call: it belongs to the objective, where its weights are counted once.

    Raises:
        InputError: an encoder that cannot be masked.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        if getattr(encoder.model, "masked_spec_embed", None) is None:
            raise InputError(
                "this model has no mask embedding, which a self-supervised objective trains: set mask_time_prob above "
                "0 in its config.json"
            )

    def begin(self, encoder: Encoder, batches: Iterable[Batch]) -> None:
        """Before the first step: what has to be found on training clips. ``batches`` need not be read to their end."""

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        """The whole effective batch with all that is random drawn, from the seed and ``step``.

        All ranks call it together; in `w2v_abx.heads.replay.Replay` some of them may have no clip.
        """
        raise NotImplementedError

    def normaliser(self, batch: Batch) -> float | Tensor:
        """What the summed loss of a prepared batch is divided by."""
        raise NotImplementedError

    def loss_sum(self, encoder: Encoder, micro: Batch) -> dict[str, Tensor]:
        """The ``"loss"`` of some clips of a prepared batch, and what else to log, as sums; in evaluation mode, what
        ``summary`` needs."""
        raise NotImplementedError

    def summary(self, sums: Mapping[str, Tensor], normaliser: Tensor) -> dict[str, Tensor]:
        """What to log of a validation, whose batches have ``sums`` in all."""
        return {name: value / normaliser for name, value in sums.items()}


class SelfSupervised(ElasticModule):
    """Trains an encoder under a `SelfSupervision`; validates on the split ``valid`` where the corpus has one.

    Args:
        encoder: trains as it was loaded to.
        data: the prepared corpus.
        optimization: optimiser and schedule.
        microbatch, gradient_clip_norm, microbatch_seconds, microbatch_grow_after: see `w2v_abx.training.microbatch`.
        settings: of the loss, which a subclass names.
    """

    loss: ClassVar[type[SelfSupervision]]

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        optimization: Optimization,
        microbatch: int | Literal["auto"] | None = None,
        gradient_clip_norm: float | None = None,
        microbatch_seconds: float | None = None,
        microbatch_grow_after: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(microbatch, gradient_clip_norm, microbatch_seconds, microbatch_grow_after)
        data.targets = {}
        self.encoder = encoder
        self.part: SelfSupervision = self.loss(encoder, **settings)
        self.optimization = optimization
        self.validates = "valid" in data.manifest.splits
        self.validation_sums: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:
        if not self.validates:
            self.trainer.limit_val_batches = 0

    def on_fit_start(self) -> None:
        self.part.begin(self.encoder, training_batches(self.trainer))

    def prepare(self, batch: Batch) -> Batch:
        return self.part.prepare(self.encoder, batch, self.global_step)

    def normaliser(self, batch: Batch) -> float | Tensor:
        return self.part.normaliser(batch)

    def loss_sum(self, micro: Batch) -> dict[str, Tensor]:
        return self.part.loss_sum(self.encoder, micro)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        prepared = self.part.prepare(self.encoder, batch, VALIDATION)
        parts = self.in_pieces(prepared, lambda piece: self.part.loss_sum(self.encoder, piece))
        sums: dict[str, Any] = {name: sum(part[name] for part in parts) for name in parts[0]}
        for name, value in {**sums, NORMALISER: self.part.normaliser(prepared)}.items():
            number = torch.as_tensor(value, dtype=torch.float32, device=self.device)
            self.validation_sums[name] = self.validation_sums[name] + number if batch_index else number

    def on_validation_epoch_end(self) -> None:
        sums = {name: sum_over_ranks(value) for name, value in sorted(self.validation_sums.items())}
        normaliser = sums.pop(NORMALISER)
        if normaliser > 0:
            for name, value in self.part.summary(sums, normaliser).items():
                self.log(f"valid/{name}", value, prog_bar=name == "loss", sync_dist=True)

    def configure_optimizers(self) -> Any:
        return self.optimization.configure(self)
