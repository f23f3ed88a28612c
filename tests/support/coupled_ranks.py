"""A head that contrasts clips of the whole batch, and steps of it on ranks, which import this: it holds no test."""

import functools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ranks import ranks_of_test
from small import ARCHITECTURE, quiet_trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from w2v_abx.data import Batch
from w2v_abx.heads.coupled import CoupledHead
from w2v_abx.heads.head import States
from w2v_abx.heads.pooling import mean_over_frames
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization

LENGTHS = [4_000, 2_500, 3_200, 4_000, 1_600, 3_700]


class Nearest(CoupledHead):
    """NT-Xent (Chen et al., 2020): clips 2k and 2k + 1 are a pair, all others of the batch their negatives."""

    def __init__(self, *given: Any, dropout: float = 0.0, **options: Any) -> None:
        super().__init__(*given, **options)
        self.linear, self.dropout = nn.Linear(16, 6), nn.Dropout(dropout)
        self.embedded: list[Tensor] = []  # of each pass, to look at

    def embed(self, states: States, batch: Batch) -> Tensor:
        found: Tensor = self.linear(self.dropout(mean_over_frames(self.mixed(states), states.frames)))
        self.embedded.append(found.detach())
        return found

    def batch_loss(self, embeddings: Tensor) -> dict[str, Tensor]:
        units = functional.normalize(embeddings, dim=-1)
        own = torch.eye(len(units), dtype=torch.bool, device=units.device)
        logits = (units @ units.T / 0.2).masked_fill(own, -torch.inf)
        partner = torch.arange(len(units), device=units.device) ^ 1
        loss = functional.cross_entropy(logits, partner, reduction="sum")
        return {"loss": loss, "accuracy": (logits.argmax(-1) == partner).float().sum()}

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        return self.coupled(self.embed(states, batch), batch)


def batch() -> Batch:
    waveforms = torch.randn(len(LENGTHS), max(LENGTHS), generator=torch.Generator().manual_seed(0))
    for row, length in zip(waveforms, LENGTHS, strict=True):
        row[length:] = 0
    return Batch([f"clip {row}" for row in range(len(LENGTHS))], ["noise"] * len(LENGTHS), waveforms,
                 torch.tensor(LENGTHS))  # fmt: skip


def objective(microbatch: int | None, dropout: float = 0.0) -> Objective:
    torch.manual_seed(0)
    architecture = ARCHITECTURE | {"hidden_dropout": dropout, "attention_dropout": dropout}
    encoder = Encoder.random(architecture, seed=1)
    heads = {"pairs": functools.partial(Nearest, dropout=dropout)}
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.5), warmup_share=0.0)
    data: Any = SimpleNamespace(has=lambda split: False, mix={}, ask=lambda heads, encoder: None)
    return Objective(encoder, heads, data, optimization, microbatch=MicroBatching(microbatch)).train()


def head(module: Objective) -> Nearest:
    found = module.heads["pairs"]
    assert isinstance(found, Nearest)
    return found


def fit(folder: Path, microbatch: int | None) -> dict[str, dict[str, Tensor]]:
    """Two steps of the one batch, or of this rank's part of it: pairs may lie on two ranks."""
    own = batch()
    if ranks_of_test() > 1:
        own = own.slice(0, 3) if os.environ["LOCAL_RANK"] == "0" else own.slice(3, 6)
    trainer = quiet_trainer(
        folder,
        max_epochs=1,
        use_distributed_sampler=False,
        devices=ranks_of_test(),
        strategy="ddp" if ranks_of_test() > 1 else "auto",
    )
    module = objective(microbatch)
    trainer.fit(module, DataLoader([own, own], batch_size=None))  # type: ignore[arg-type]
    logged = {name: torch.as_tensor(value) for name, value in trainer.callback_metrics.items()}
    return {"logged": logged, "weights": {name: weight.detach() for name, weight in module.named_parameters()}}


def fit_in_ranks(folder: Path) -> None:
    """The first rank takes its clips one by one, the second two at once; each writes what came of it."""
    rank = os.environ["LOCAL_RANK"]
    torch.save(fit(folder, 1 if rank == "0" else 2), folder / f"rank{rank}.pt")
