"""What tests ask of loaders."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from w2v_abx.data import Batch, ShardDataModule


def contents(loader: Any) -> list[tuple[list[str], list[str], torch.Tensor, torch.Tensor]]:
    """All that is in the batches of a loader, but their targets."""
    return [(batch.keys, batch.corpora, batch.waveforms, batch.lengths) for batch in loader]


def same(a: Any, b: Any) -> bool:
    """Whether two batches are the same to the bit."""
    return a[:2] == b[:2] and torch.equal(a[2], b[2]) and torch.equal(a[3], b[3])


class Learner(lightning.LightningModule):
    """One weight that remembers the order of what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[str], float]] = []

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch.keys, float(batch.waveforms.sum())))
        return (self.weight - batch.waveforms.std()) ** 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def fit(out: Path, resume: Path | None = None, model: Learner | None = None, **settings: Any) -> Learner:
    """Three epochs, with a checkpoint after each step."""
    model = model or Learner()
    trainer = lightning.Trainer(
        accelerator="cpu",
        default_root_dir=out,
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        callbacks=[ModelCheckpoint(out, filename="{step}", every_n_train_steps=1, save_top_k=-1)],
    )
    trainer.fit(model, datamodule=ShardDataModule(**settings), ckpt_path=resume, weights_only=False)
    return model


class Killed(Learner):
    """Ends as with kill -9, before its sixth step is made."""

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        if len(self.seen) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, index)


def fit_until_killed(out: Path, settings: dict[str, Any]) -> None:
    """What a process of its own runs."""
    fit(out, model=Killed(), **settings)
