"""Objectives on a small encoder and clips of mixed lengths, in this process or in ranks, which import this module: it
holds no test."""

import functools
from pathlib import Path
from typing import Any

import torch
from elastic import Losses
from ranks import ranks_of_test
from small import ARCHITECTURE, quiet_trainer
from sounds import Fixed, Sounds

from w2v_abx import shards
from w2v_abx.data import ShardDataModule
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.framewise import Framewise
from w2v_abx.heads.masked_prediction import MaskedPrediction
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.heads.quantizer import QuantizerSizes
from w2v_abx.heads.utterance import Utterance
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization

CLIPS, STEPS = 8, 4
CONTRASTIVE = functools.partial(
    Contrastive,
    sizes=QuantizerSizes(groups=2, entries=6, codevector_dim=8, projection_dim=12),
    num_negatives=5,
    mask_time_length=3,
)
HEADS: dict[str, dict[str, Any]] = {
    "supervised": {"one": Multilabel, "two": Multilabel},
    "replay": {"one": Multilabel, "replay": CONTRASTIVE},
    "frames": {
        "phones": functools.partial(Framewise, label="phones", class_weights="counts", label_smoothing=0.1),
        "speaker": functools.partial(Framewise, label="speaker", layers="weighted", keep_silence=True),
    },
    "clips": {
        "one": functools.partial(Utterance, label="speaker", pooling="attentive", layers="weighted"),
        "two": functools.partial(Utterance, label="speaker", pooling="statistics", layers=[0, 1]),
        "three": functools.partial(Multilabel, pooling="attentive", layers="weighted"),
    },
    "masked_prediction": {"clusters": functools.partial(MaskedPrediction, clusters=6, mask_time_length=3, speed=1.2)},
    "pretrain": {"wav2vec2": CONTRASTIVE},
}


def prepare(folder: Path) -> Path:
    """Clips of 0.3 to 1 s under two kinds of label, by two speakers; all but one with phones."""
    sounds = Sounds(folder)
    for number in range(CLIPS + 2):
        labels = [["low"], ["high"], ["high", "low"]][number % 3]
        split = "train" if number < CLIPS else "valid"
        seconds = 0.3 + 0.1 * (3 * number % 8)
        bounds = [0.05, 0.1 + 0.03 * (number % 4), seconds / 2, seconds - 0.02]
        phones = [[*bounds[k : k + 2], "a" if (k + number) % 2 else "b"] for k in range(3 - number % 2)]
        who = {"speaker": f"speaker{number % 2}", **({"phones": phones} if number != 5 else {})}
        sounds.add(f"clip{number}", seconds, split, labels=labels, **who)
    shards.prepare(Fixed(sounds.clips), folder / "shards")
    return folder / "shards"


def make(kind: str, data: ShardDataModule, adam: bool = False, microbatch: MicroBatching | None = None) -> Objective:
    """An objective by its name; the same weights each time."""
    torch.manual_seed(0)
    encoder = Encoder.random({**ARCHITECTURE, "num_hidden_layers": 2})
    # Plain gradient descent: Adam would blow the rounding of vanishing gradients up to whole steps.
    plain = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=False)
    optimizer = functools.partial(torch.optim.AdamW, lr=1e-3) if adam else plain
    optimization = Optimization(optimizer, warmup_share=0.0, gradient_clip_norm=1.0)
    objective = Objective(encoder, HEADS[kind], data, optimization, microbatch=microbatch)
    for head in objective.heads.values():
        if isinstance(head, MaskedPrediction):
            head.centroids.normal_()  # else found on what the first rank reads
    return objective


def run(kind: str, folder: Path, watch: Any = None, **settings: Any) -> dict[str, Any]:
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
        strategy="ddp" if size > 1 else "auto",
    )
    module.train()
    trainer.fit(module, datamodule=data)
    weights = {name: value.detach().clone() for name, value in module.named_parameters()}
    return {"losses": losses.values, "weights": weights}
