"""A training that is quick and random, and everything that can be told of it."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from small import quiet_trainer
from torch import Tensor, nn

from w2v_abx.data import ShardDataModule
from w2v_abx.data.batch import Batch
from w2v_abx.training.microbatch import ElasticModule
from w2v_abx.training.saving import Checkpoints, ExactResume, MetricsCsv
from w2v_abx.training.saving.files import checkpoint_of, load

Event = tuple[Any, ...]


class Learner(ElasticModule):
    """A linear layer behind dropout; remembers what it trained on and when it was validated."""

    def __init__(self, happen: Callable[[Event], None] = lambda event: None, asks: bool = False) -> None:
        """``happen``: is called with each event. ``asks``: the schedule wants to know how many steps there will be."""
        super().__init__()
        self.asks = asks
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 1)
        self.events: list[Event] = []
        self.happen = happen

    def note(self, *event: Any) -> None:
        self.events.append(event)
        self.happen(event)

    def output(self, batch: Batch) -> Tensor:
        return self.layer(nn.functional.dropout(batch.waveforms[:, :8], 0.5, self.training)).squeeze(1)

    def prepare(self, batch: Batch) -> Batch:
        drawn = round(float(np.random.rand()), 6)  # noqa: NPY002 the state that is meant to be kept
        self.note("train", self.global_step, self.current_epoch, *batch.keys, drawn)
        return batch

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        return {"loss": (self.output(micro) - micro.waveforms.std(1)).square().sum() / totals["clips"]}

    def on_validation_epoch_start(self) -> None:
        self.note("valid", self.global_step, round(float(torch.rand(())), 6))

    def validation_step(self, batch: Batch, index: int) -> None:
        self.note("valid batch", index)
        self.log("valid/loss", self.output(batch).square().mean(), batch_size=len(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        if self.asks:
            assert self.trainer.estimated_stepping_batches > 0
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.7)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    folder: Path,
    shards: Path,
    resume: Path | None = None,
    *,
    module: Learner | None = None,
    callbacks: Sequence[lightning.Callback] = (),
    workers: int = 0,
    saving: dict[str, Any] | None = None,
    seed: int = 1,
    **trainer: Any,
) -> Learner:
    """Train on the shards with checkpoints in ``folder``; three epochs unless ``trainer`` says otherwise."""
    module = module or Learner()
    lightning.seed_everything(seed, verbose=False)
    settings = {"every_epochs": None, "every_minutes": None, **(saving or {})}
    quiet_trainer(
        folder,
        logger=MetricsCsv(folder),
        callbacks=[ExactResume(), *callbacks, Checkpoints(folder / "checkpoints", **settings)],
        enable_checkpointing=True,
        log_every_n_steps=1,
        **({"max_epochs": 3} | trainer),
    ).fit(module, datamodule=ShardDataModule(shards, batch_size=4, num_workers=workers), ckpt_path=resume)
    return module


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def newest_step(folder: Path) -> int:
    """Return the steps of a run's newest whole checkpoint."""
    path = checkpoint_of(folder)
    assert path is not None
    step: int = load(path)["global_step"]
    return step
