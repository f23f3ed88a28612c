"""The objectives themselves on a small encoder and clips of mixed lengths, in this process or in ranks, which import
this module: it holds no test."""

import functools
from pathlib import Path
from typing import Any

import torch
from elastic import Losses
from ranks import ranks_of_test
from small import ARCHITECTURE, quiet_trainer
from sounds import Fixed, Sounds
from torch.distributed.tensor import DTensor
from w2v_abx.heads.replay import Replay
from w2v_abx.training.pretrain import Pretrain
from w2v_abx.training.supervised import Supervised

from w2v_abx import shards
from w2v_abx.data import ShardDataModule
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.masked_prediction import MaskedPrediction
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import ElasticModule
from w2v_abx.training.optimization import Optimization

CLIPS, STEPS = 8, 4
CODEBOOK = {"groups": 2, "entries": 6, "codevector_dim": 8, "projection_dim": 12, "num_negatives": 5, "mask_span": 3}


def prepare(folder: Path) -> Path:
    """Clips of 0.3 to 1 s under two kinds of label."""
    sounds = Sounds(folder)
    for number in range(CLIPS + 2):
        labels = [["low"], ["high"], ["high", "low"]][number % 3]
        split = "train" if number < CLIPS else "valid"
        sounds.add(f"clip{number}", 0.3 + 0.1 * (3 * number % 8), split, labels=labels)
    shards.prepare(Fixed(sounds.clips), folder / "shards")
    return folder / "shards"


def make(kind: str, data: ShardDataModule, adam: bool = False, **settings: Any) -> ElasticModule:
    """An objective by its name; the same weights each time."""
    torch.manual_seed(0)
    encoder = Encoder.random({**ARCHITECTURE, "num_hidden_layers": 2})
    # Plain gradient descent: Adam would blow the rounding of vanishing gradients up to whole steps.
    plain = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=False)
    optimization = Optimization(functools.partial(torch.optim.AdamW, lr=1e-3) if adam else plain, warmup_share=0.0)
    if kind == "supervised":
        heads = {name: functools.partial(Multilabel, target="labels") for name in ("one", "two")}
        return Supervised(encoder, data, heads, optimization, gradient_clip_norm=1.0, **settings)
    if kind == "replay":
        replay = functools.partial(Replay, part=functools.partial(Contrastive, **CODEBOOK), clips="all")
        return Supervised(encoder, data, {"one": Multilabel}, optimization, replay=replay, **settings)
    if kind == "masked_prediction":
        objective = MaskedPrediction(encoder, data, optimization, clusters=6, mask_span=3, speed=1.2, **settings)
        objective.part.centroids.normal_()  # else found on what the first rank reads
        return objective
    return Pretrain(encoder, data, optimization, gradient_clip_norm=1.0, **CODEBOOK, **settings)


def run(kind: str, folder: Path, strategy: Any = None, watch: Any = None, **settings: Any) -> dict[str, Any]:
    """A few steps of the whole training split each, on however many ranks there are: the loss of each, and weights."""
    data = ShardDataModule(folder, batch_size=CLIPS)
    module = make(kind, data, **settings)
    if watch is not None:
        module.microbatches.hooks.append(lambda: watch(module))
    losses, size = Losses(), ranks_of_test()
    trainer = quiet_trainer(
        folder,
        max_steps=STEPS,
        max_epochs=-1,
        callbacks=[losses],
        limit_val_batches=0,
        devices=size,
        strategy=strategy or ("ddp" if size > 1 else "auto"),
    )
    module.train()
    trainer.fit(module, datamodule=data)
    weights = {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
        for name, value in module.named_parameters()
    }
    return {"losses": losses.values, "weights": weights}
