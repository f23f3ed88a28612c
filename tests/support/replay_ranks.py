"""What tests of replay run on two ranks, which import this module: it holds no test."""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from ranks import ranks_of_test
from small import ARCHITECTURE, quiet_trainer
from torch.utils.data import DataLoader

from w2v_abx.data import Batch, ShardDataModule
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.heads.quantizer import QuantizerSizes
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization

CONTRASTIVE = functools.partial(
    Contrastive, sizes=QuantizerSizes(2, 6, 8, 12), mask_time_length=2, num_negatives=5, feature_dropout=0.0
)


def mixed(folder: Path, weight: float = 0.5, **settings: Any) -> ShardDataModule:
    """The corpus ``sounds`` in ``folder``, with ``speech`` mixed in."""
    mix = {"speech": {"folder": str(folder / "speech"), "weight": weight, **settings}}
    return ShardDataModule(folder / "sounds", batch_size=8, mix=mix)


def objective(
    data: ShardDataModule,
    replay: Any = CONTRASTIVE,
    options: dict[str, Any] | None = None,
    microbatch: int | None = None,
    gradient_clip_norm: float | None = None,
) -> Objective:
    torch.manual_seed(0)
    optimization = Optimization(
        functools.partial(torch.optim.SGD, lr=0.05), warmup_share=0.0, gradient_clip_norm=gradient_clip_norm
    )
    heads: dict[str, Any] = {"labels": Multilabel}
    if replay is not None:
        heads["replay"] = functools.partial(replay, **{"clips": "unlabelled", **(options or {})})
    encoder = Encoder.random(ARCHITECTURE, seed=1)
    return Objective(encoder, heads, data, optimization, microbatch=MicroBatching(microbatch))


def by_kind(batch: Batch) -> tuple[list[int], list[int]]:
    """The rows of speech, and those of sounds."""
    speech = [row for row, name in enumerate(batch.corpora) if name == "speech"]
    return speech, [row for row in range(len(batch)) if row not in speech]


def share(batch: Batch) -> Batch:
    """This rank's clips: of two ranks the first has all the speech and a sound, the second sounds alone."""
    if ranks_of_test() == 1:
        return batch
    speech, sounds = by_kind(batch)
    return batch.rows([*speech, sounds[0]] if os.environ["LOCAL_RANK"] == "0" else sounds[1:])


def weights_in_ranks(folder: Path) -> None:
    """Two steps of the same batches, divided; each rank writes its weights and the last losses."""
    data = mixed(folder)
    module = objective(data, microbatch=2)
    batches = [share(batch) for _, batch in zip(range(2), data.train_dataloader(), strict=False)]
    trainer = quiet_trainer(
        folder,
        max_epochs=1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        devices=ranks_of_test(),
        strategy="ddp" if ranks_of_test() > 1 else "auto",
    )
    module.train()
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    found = {name: value.detach().clone() for name, value in module.named_parameters()}
    logged = {name: torch.as_tensor(value) for name, value in trainer.callback_metrics.items()}
    torch.save({"weights": found, "logged": logged}, folder / f"ranks{ranks_of_test()}_{trainer.global_rank}.pt")
