"""A small objective and runs of it, in this process or in ranks, which import this module: it holds no test."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from ranks import ranks_of_test
from small import quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from w2v_abx.data.batch import Batch, Target
from w2v_abx.training.microbatch import ElasticModule

CLIPS, SAMPLES, STEPS = 7, 40, 4


def make_batch(index: int, clips: int = CLIPS) -> Batch:
    """Clips of mixed lengths; ``keys`` are ``INDEX-CLIP``."""
    generator = torch.Generator().manual_seed(index)
    lengths = torch.randint(SAMPLES // 2, SAMPLES + 1, (clips,), generator=generator)
    waveforms = torch.randn(clips, SAMPLES, generator=generator)
    waveforms[torch.arange(SAMPLES) >= lengths[:, None]] = 0.0
    labels = torch.rand(clips, 3, generator=generator).round()
    keys = [f"{index}-{clip}" for clip in range(clips)]
    target = Target(labels, None, torch.ones(clips, dtype=torch.bool))
    return Batch(keys, ["noises"] * clips, waveforms, lengths, {"labels": target})


class Objective(ElasticModule):
    """A multilabel loss: the mean over the frames of a mask that is drawn."""

    def __init__(
        self,
        watch: Callable[["Objective", Batch], None] = lambda module, micro: None,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 3))
        self.watch, self.optimizer = watch, optimizer
        self.seen: list[int] = []

    def prepare(self, batch: Batch) -> Batch:
        rows = []
        for key in batch.keys:  # so that a clip's row does not depend on the rank that draws it
            generator = torch.Generator().manual_seed(zlib.crc32(f"{key}/{self.global_step}".encode()))
            rows.append(torch.rand(SAMPLES, generator=generator) < 0.5)
        return batch.with_extra(mask=torch.stack(rows))

    def totals(self, batch: Batch) -> dict[str, float]:
        return {"frames": float(batch.extra["mask"].sum())}

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        self.watch(self, micro)
        self.seen.append(len(micro))
        logits = self.net(micro.waveforms[..., None])
        mask = micro.extra["mask"][:, : logits.shape[1]] & (torch.arange(logits.shape[1]) < micro.lengths[:, None])
        errors = nn.functional.binary_cross_entropy_with_logits(
            logits.float(), micro.targets["labels"].values[:, None].expand_as(logits), reduction="none"
        )
        loss = (errors.mean(-1) * mask).sum()
        return {"loss": loss / totals["frames"], "frames": mask.sum() / totals["frames"]}

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.8**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Losses(lightning.Callback):
    """The loss of each step, as it was logged."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(trainer.callback_metrics["train/loss"]))


def fit(
    module: ElasticModule,
    batches: Sequence[Batch] | None = None,
    folder: Path | None = None,
    resume: Path | None = None,
    callbacks: Sequence[lightning.Callback] = (),
    **settings: Any,
) -> tuple[lightning.Trainer, list[float]]:
    """One epoch of the batches, on however many ranks there are; the loss of each step."""
    losses, size = Losses(), ranks_of_test()
    options: dict[str, Any] = {"max_epochs": 1, "use_distributed_sampler": False}
    options |= {"devices": size, "strategy": "ddp" if size > 1 else "auto"}
    trainer = quiet_trainer(folder or Path(), callbacks=[losses, *callbacks], **(options | settings))
    batches = batches or [make_batch(index) for index in range(STEPS)]
    trainer.fit(module, DataLoader(batches, batch_size=None), ckpt_path=resume, weights_only=True)  # type: ignore[arg-type]
    return trainer, losses.values
