"""What tests of elastic micro-batches run on two ranks, which import this module: it holds no test."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from elastic import STEPS, Objective, fit, make_batch
from elastic_objectives import run
from torch import Tensor, nn

from w2v_abx.data.batch import Batch
from w2v_abx.distributed.collectives import agree, gather, largest, sum_gradients, sum_named, sum_over_ranks
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch import MicroBatching, module

SPLIT = 5  # of seven clips, rank 0 has the first five
ONE, THREE = MicroBatching(clips=1), MicroBatching(clips=3)


def rank() -> int:
    return int(os.environ["LOCAL_RANK"])


def shares(batches: list[Batch]) -> list[Batch]:
    """This rank's part of batches that one process has whole."""
    first, last = (0, SPLIT) if rank() == 0 else (SPLIT, 7)
    return [batch.slice(first, last) for batch in batches]


class Uneven(Objective):
    """A layer that only clip 6, hence rank 1, uses; one that none uses; and a loss that only clip 0 has."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.some, self.none = nn.Linear(1, 3), nn.Linear(1, 3)

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        shares = super().loss(micro, totals)
        for key, row in zip(micro.keys, micro.waveforms, strict=True):
            if key.endswith("-6"):
                shares["loss"] = shares["loss"] + self.some(row[:1]).square().sum() / totals["frames"]
            if key.endswith("-0"):
                shares["first"] = row.square().sum() / totals["frames"]
        return shares


def result(module: Objective, batches: list[Batch], folder: Path, **settings: Any) -> dict[str, Any]:
    """What came of a run: losses, weights, limits; or the error."""
    found: dict[str, Any] = {}
    try:
        trainer, found["losses"] = fit(module, batches, folder, **settings)
        found["logged"] = {name: float(value) for name, value in trainer.callback_metrics.items()}
    except (InputError, ValueError) as error:
        found["error"] = f"{type(error).__name__}: {error}"
        found["keys"] = getattr(error, "keys", None)
    found["weights"] = [weight.detach().clone() for weight in module.parameters()]
    found["microbatches"] = module.microbatches.state_dict()
    found["seen"] = module.seen
    return found


def run_out(module: Objective, micro: Batch) -> None:
    """Rank 1 has memory for one clip."""
    if rank() == 1 and len(micro) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def runs_out(module: Objective, micro: Batch) -> None:
    """Rank 0 has memory for three clips, rank 1 for two."""
    if len(micro) > 3 - rank():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def never_fits(module: Objective, micro: Batch) -> None:
    """Rank 1 has memory for none."""
    if rank() == 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def fails(module: Objective, micro: Batch) -> None:
    """Rank 1 fails after a clip."""
    if rank() == 1 and module.seen:
        raise ValueError("a bad clip")


def spoilt(count: int = STEPS) -> list[Batch]:
    """The sixth clip of the second batch is not finite."""
    batches = [make_batch(index) for index in range(count)]
    batches[1].waveforms[5, 0] = torch.nan
    return batches


def everything(folder: Path) -> None:
    """Runs on two ranks; each writes what came of them."""
    whole = [make_batch(index) for index in range(STEPS)]
    found: dict[str, Any] = {
        "plain": result(Objective(microbatch=ONE, gradient_clip_norm=0.1), shares(whole), folder),
        "uneven": result(Uneven(microbatch=MicroBatching(clips=2)), shares(whole), folder),
        "memory": result(Objective(run_out, gradient_clip_norm=0.1), shares(whole), folder),
        "no memory": result(Objective(never_fits), shares(whole), folder),
        "failure": result(Objective(fails, microbatch=ONE), shares(whole), folder),
        "spoilt": result(Objective(microbatch=ONE), shares(spoilt()), folder),
        "spoilt, fused": result(Objective(microbatch=ONE, optimizer=fused), shares(spoilt()), folder),
    }
    module.reports_full_memory = lambda device: True  # type: ignore[assignment]
    found["auto"] = result(
        Objective(runs_out, microbatch=MicroBatching(clips="auto"), gradient_clip_norm=0.1), shares(whole), folder
    )
    found["collectives"] = collectives()
    found["supervised"] = run("supervised", folder / "shards", microbatch=THREE)
    found["pretrain"] = run("pretrain", folder / "shards", microbatch=ONE)
    found["masked_prediction"] = run("masked_prediction", folder / "shards", microbatch=THREE)
    found["supervised, fused"] = run("supervised", folder / "shards", microbatch=THREE, adam=True)
    torch.save(found, folder / f"rank{rank()}.pt")


def fused(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, fused=True)


def collectives() -> dict[str, Any]:
    """The functions of `w2v_abx.distributed.collectives` themselves."""
    mine = torch.arange(6.0).view(2, 3) * (rank() + 1)
    large = (rank() + 1) * torch.ones(600, 600)
    gradients = [mine.clone(), mine[0].double(), large, mine[1].clone(), 2 * large.T, mine.T.clone().T]
    sum_gradients(gradients)
    try:
        agree(InputError("no clips") if rank() == 0 else None)
    except (InputError, ValueError) as error:
        message = str(error)
    agree()
    return {
        "largest": largest([rank(), -rank(), 5]),
        "gathered": gather({"rank": rank()}),
        "number": sum_over_ranks(1.5 + rank()),
        "tensor": sum_over_ranks(mine),
        "named": sum_named({"clips": 2.0 + rank(), "frames": 0.5}),
        "gradients": gradients,
        "message": message,
    }
