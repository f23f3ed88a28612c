"""What tests of replay run on two ranks, which import this module: it holds no test."""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from ranks import ranks_of_test
from small import ARCHITECTURE, quiet_trainer
from torch.utils.data import DataLoader
from w2v_abx.heads.replay import Replay, take
from w2v_abx.training.supervised import Supervised

from w2v_abx.data import ShardDataModule
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import Batch
from w2v_abx.training.optimization import Optimization

PART = functools.partial(
    Contrastive, groups=2, entries=6, codevector_dim=8, projection_dim=12, mask_span=2, num_negatives=5
)


def mixed(folder: Path, weight: float = 0.5, **settings: Any) -> ShardDataModule:
    """The corpus ``sounds`` in ``folder``, with ``speech`` mixed in."""
    mix = {"speech": {"folder": str(folder / "speech"), "weight": weight, **settings}}
    return ShardDataModule(folder / "sounds", batch_size=8, mix=mix)


def objective(data: ShardDataModule, replay: Any = PART, options: dict[str, Any] | None = None, **settings: Any) -> Any:
    torch.manual_seed(0)
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.05), warmup_share=0.0)
    made = None if replay is None else functools.partial(Replay, part=replay, **(options or {}))
    heads = {"labels": Multilabel}
    return Supervised(Encoder.random(ARCHITECTURE, seed=1), data, heads, optimization, replay=made, **settings)


def share(batch: Batch) -> Batch:
    """This rank's clips: of two ranks the first has all the speech and a sound, the second sounds alone."""
    if ranks_of_test() == 1:
        return batch
    speech = [row for row, name in enumerate(batch["corpora"]) if name == "speech"]
    sounds = [row for row, name in enumerate(batch["corpora"]) if name != "speech"]
    return take(batch, [*speech, sounds[0]] if os.environ["LOCAL_RANK"] == "0" else sounds[1:])


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
