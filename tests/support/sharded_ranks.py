"""A small encoder that two ranks divide between them, which import this module: it holds no test."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from ranks import ranks_of_test
from small import ARCHITECTURE, quiet_trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from w2v_abx.distributed.sharding import Sharded, brought_together, full_state
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import Batch, ElasticModule
from w2v_abx.training.saving import DivergenceGuard

STEPS = 3


class Learner(ElasticModule):
    def __init__(self, train: str = "all", **settings: Any) -> None:
        super().__init__(gradient_clip_norm=0.5, **settings)
        self.encoder = Encoder.random({**ARCHITECTURE, "num_hidden_layers": 2}, train=train)
        torch.manual_seed(0)
        self.head = nn.Linear(16, 1)

    def loss_sum(self, micro: Batch) -> Tensor:
        hidden, _ = self.encoder(micro["waveforms"], micro["lengths"], [2])
        loss: Tensor = (self.head(hidden[0]).mean((1, 2)) - 1).square().sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        return torch.optim.AdamW(trained, lr=0.01, eps=1e-3)  # which rounding does not decide


def batches(rank: int, size: int, *, uneven: bool = False) -> list[Batch]:
    """A rank's part of batches of four clips; of ``uneven`` ones the first of two ranks has three."""
    waves = torch.randn(STEPS, 4, 4_000, generator=torch.Generator().manual_seed(1))
    part = slice(rank * 4 // size, (rank + 1) * 4 // size)
    if uneven and size > 1:
        part = slice(3 * rank, 3 + rank)
    return [
        {"keys": ["a", "b", "c", "d"][part], "waveforms": wave[part], "lengths": torch.full((4,), 4_000)[part]}
        for wave in waves
    ]


def fit(folder: Path, resume: Path | None = None, *, head: bool = False) -> Learner:
    """Three steps, with a checkpoint after each; or of the head alone, clip by clip, of which one rank has more."""
    size = ranks_of_test()
    saving = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    guard = DivergenceGuard(folder, gradient_above=1e6)  # the norm of gradients that are divided, too
    trainer = quiet_trainer(
        folder, devices=size, strategy=Sharded() if size > 1 else "auto", max_epochs=1, callbacks=[saving, guard],
        enable_checkpointing=True, use_distributed_sampler=False,
    )  # fmt: skip
    module = Learner("head", microbatch=1) if head else Learner()
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    trainer.fit(module, DataLoader(batches(rank, size, uneven=head), batch_size=None), ckpt_path=resume)  # type: ignore[arg-type]
    return module


def everything(folder: Path) -> None:
    """Train, go on from checkpoints, and look at the whole model; the first rank writes down what came of it."""
    module = fit(folder / "own")
    found: dict[str, Any] = {"trained": full_state(module)}
    found["divided"] = sum(isinstance(weight, DTensor) for weight in module.parameters())
    rank = module.global_rank
    with torch.no_grad(), brought_together(module):
        for _ in range(1 + 2 * rank):  # one rank more often than the other
            loss = module.loss_sum(batches(0, 1)[0])
    found["loss"] = loss.item()
    found["still trained"] = full_state(module)
    for name in ("own", "alone"):
        found[f"from {name}"] = full_state(fit(folder / "again", folder / name / "step=1.ckpt"))
    found["head alone"] = full_state(fit(folder / "head", head=True))
    if rank == 0:
        torch.save(found, folder / f"found{ranks_of_test()}.pt")
