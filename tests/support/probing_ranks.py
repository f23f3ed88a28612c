"""Runs of a frozen encoder, which tests also start on two ranks: those import this module, and it holds no test."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from ranks import ranks_of_test
from small import ARCHITECTURE, quiet_trainer

from w2v_abx.data import ShardDataModule
from w2v_abx.features.cache import FeatureCache
from w2v_abx.heads.ctc import Ctc
from w2v_abx.heads.framewise import Framewise
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.heads.utterance import Utterance
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization

HEADS = {
    "labels": functools.partial(Multilabel, layers="weighted"),
    "symbols": functools.partial(Ctc, label="labels"),
    "frames": functools.partial(Framewise, label="labels", spread="all"),
    "kind": functools.partial(Utterance, label="labels", layers=[1, 2]),
}
DROPOUT = {"hidden_dropout": 0.3, "attention_dropout": 0.3, "activation_dropout": 0.3, "layerdrop": 0.3}


def probe(
    data: ShardDataModule, gigabytes: float, folder: Path, heads: Any = None, train: str = "head", **more: Any
) -> Objective:
    """An objective whose encoder, which has dropout where it trains, is frozen unless ``train`` says otherwise."""
    torch.manual_seed(0)
    optimization = Optimization(functools.partial(torch.optim.AdamW, lr=1e-2), warmup_share=0.0)
    encoder = Encoder.random({**ARCHITECTURE, "num_hidden_layers": 2, **DROPOUT}, seed=1, train=train)
    options = {"microbatch": MicroBatching(3), **more}
    frozen = FeatureCache(folder / "features", gigabytes)
    return Objective(encoder, HEADS if heads is None else heads, data, optimization, frozen=frozen, **options)


class Told(lightning.Callback):
    """What each step and validation logs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *others: Any) -> None:
        self.rows.append({name: float(value) for name, value in sorted(trainer.callback_metrics.items())})


class Run(NamedTuple):
    """A run of an objective, and what each of its steps logged."""

    module: Objective
    rows: list[dict[str, float]]


def run(
    data: ShardDataModule,
    gigabytes: float,
    folder: Path,
    resume: Path | None = None,
    trainer: Any = None,
    **options: Any,
) -> Run:
    """Train for two epochs, with the features in ``folder``; ``options`` are those of `probe`."""
    module, told = probe(data, gigabytes, folder, **options), Told()
    module.train()
    settings = {"max_epochs": 2, **(trainer or {})}
    callbacks = [told, *settings.pop("callbacks", [])]
    quiet_trainer(folder, callbacks=callbacks, **settings).fit(
        module, datamodule=data, ckpt_path=resume, weights_only=False
    )
    return Run(module, told.rows)


def probe_in_ranks(folder: Path) -> None:
    """Probe with what is stored and without; each rank writes both weights."""
    several = {"devices": ranks_of_test(), "strategy": "ddp", "use_distributed_sampler": False}
    found = {}
    for gigabytes in (1.0, 0.0):
        data = ShardDataModule(folder / "shards", batch_size=8)
        module, _ = run(data, gigabytes, folder, trainer=several)
        found[f"{gigabytes:g}"] = dict(module.heads.named_parameters())
        assert bool(data.stored) == bool(gigabytes)
    torch.save(found, folder / f"{module.trainer.global_rank}.pt")
