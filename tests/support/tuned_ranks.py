"""What tests of fine-tuning run on two ranks, which import this module: it holds no test."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import lightning
import torch
from torch import Tensor
from tuned import Tuned, fit, weights

from w2v_abx.training.callbacks import L2SP, Ema, HeadFirst
from w2v_abx.training.optimization import Optimization

Case = tuple[str, Callable[[], list[lightning.Callback]]]

CASES: dict[str, Case] = {  # what trains, and the callbacks
    "l2sp": ("all", lambda: [L2SP(0.3, 0.2)]),
    "head first": ("all", lambda: [HeadFirst(4), Ema(0.8), L2SP(0.3, 0.2)]),
    "lora": ("lora", lambda: [Ema(0.8), L2SP(0.3, 0.2)]),
}


def result(case: Case, folder: Path, clips: slice = slice(None), **settings: object) -> dict[str, Tensor]:
    """The weights that a run ends with."""
    train, callbacks = case
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.1), layer_decay=0.8)
    module = Tuned(optimization, train=train, microbatch=1, gradient_clip_norm=0.5)
    return weights(fit(module, folder, callbacks(), clips=clips, **settings))


def tuned_in_ranks(folder: Path) -> None:
    """Every case on two ranks, the first of which has two of the three clips of each batch; each writes its weights."""
    rank = os.environ["LOCAL_RANK"]
    clips = slice(0, 2) if rank == "0" else slice(2, 3)
    found = {name: result(case, folder, clips, devices=2, strategy="ddp") for name, case in CASES.items()}
    torch.save(found, folder / f"rank{rank}.pt")
