"""What tests run in several processes: spawned ones import this module, and so it holds no test."""

import json
import os
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import torch.distributed as dist
from noises import batches, noises
from ranks import ranks_of_test
from small import ARCHITECTURE, extract_all, quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from w2v_abx.abx import AbxMetric, Task
from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech
from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.training.callbacks.abx_monitor import AbxMonitor

SETTING = AbxSetting(batch_seconds=3.0)


def trainer_of(folder: Path, **settings: Any) -> lightning.Trainer:
    size = ranks_of_test()
    return quiet_trainer(folder, devices=size, strategy="ddp" if size > 1 else "auto", **settings)


class Logging(lightning.LightningModule):
    """Logs ABX in validation; Lightning deals out the batches, and repeats some to make ranks even."""

    def __init__(self, speech: Speech) -> None:
        super().__init__()
        self.encoder = Encoder.random(ARCHITECTURE)
        self.layer = nn.Linear(5, 5)
        self.abx = AbxMetric(speech.items, Task.preset("across"), frequency=50)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        hidden, _ = self.encoder(batch, torch.full((len(batch),), batch.shape[1]), [1])
        return hidden[0].square().mean() + self.layer.weight.square().mean()

    def validation_step(self, batch: tuple[list[str], Tensor, Tensor], index: int) -> None:
        names, features, lengths = batch
        self.abx.update(names, features, lengths)
        self.log("abx", self.abx, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)  # so that one process trains to the same weights


def cells_of(result: AbxResult) -> list[Any]:
    return [scores.cells.rows() for scores in result.scores.values()]


def everything(folder: Path) -> None:
    """Evaluate, monitor and log, on however many ranks there are; rank 0 writes what came out to ``found.pt``."""
    speech = noises(folder, takes=5)
    trainer = trainer_of(folder)
    found: dict[str, Any] = {"encoder": cells_of(evaluate("m", Encoder.random(ARCHITECTURE), speech, SETTING, trainer))}
    deltas = evaluate("m", Mfcc(), speech, SETTING, trainer_of(folder)).scores[0, "across"].delta
    found["deltas"] = [deltas.mean, deltas.std, deltas.counts]
    # Fewer batches than ranks: one of them has none.
    two = {name: speech.files[name] for name in ("ann0", "bob0")}
    features = extract_all(Mfcc(), two, [0], 1.0, trainer_of(folder))
    found["features"] = {name: value.clone() for name, value in features[0].items()}

    module = Logging(speech)
    monitor = AbxMonitor(speech, SETTING, every=1, folder=folder / "run")
    clips = DataLoader(torch.randn(6, 4_000, generator=torch.Generator().manual_seed(0)), batch_size=1)
    trainer = trainer_of(folder, max_steps=1, callbacks=[monitor], limit_val_batches=1.0)
    validation = DataLoader(batches(speech.items, size=1), batch_size=None)
    trainer.fit(module, clips, validation)
    trainer.validate(module, validation, verbose=False)
    found["monitor"] = (folder / "run" / "monitor.csv").read_text() if trainer.is_global_zero else None
    found["logged"] = trainer.callback_metrics["abx"].item()
    found["cells"] = module.abx.scores.cells.rows()

    if trainer.world_size > 1:
        ranks = DistributedRanks()
        found["ranks"] = [ranks.rank, ranks.size]
        found["sums"] = [
            ranks.sum(np.arange(4).astype(kind) * 10**ranks.rank) for kind in ("int64", "float32", "float64")
        ]
        found["empty"] = ranks.sum(np.zeros((0, 3))).shape
        found["errors"] = [broken(speech, folder), empty_rank(speech)]
    torch.save(found, folder / f"found{trainer.global_rank}.pt")


def broken(speech: Speech, folder: Path) -> str:
    """What each rank says of a file that one of them cannot read."""
    path = folder / f"broken{dist.get_rank()}.flac"
    whole = speech.files["bob3"].read_bytes()
    path.write_bytes(whole[:3_000] + bytes(2_000) + whole[5_000:])  # only who decodes it finds out
    try:
        evaluate("m", Mfcc(), Speech(speech.items, {**speech.files, "bob3": path}), SETTING, trainer_of(folder))
    except InputError as error:
        return str(error)
    return "no error"


def empty_rank(speech: Speech) -> str:
    """A metric to which only the last rank gives anything, and that lacks a file."""
    metric = AbxMetric(speech.items, Task.preset("across"), frequency=50)
    if dist.get_rank() == dist.get_world_size() - 1:
        for batch in batches(speech.items)[:-1]:
            metric.update(*batch)
    try:
        metric.compute()
    except InputError as error:
        return str(error)
    return "no error"


def one_fails(folder: Path) -> None:
    """Rank 1 ends with an error of its own while the others wait for it."""
    rank, size = (int(os.environ[name]) for name in ("LOCAL_RANK", "WORLD_SIZE"))
    dist.init_process_group("gloo", rank=rank, world_size=size)
    ranks = DistributedRanks()
    if ranks.rank == 1:
        raise ValueError("rank 1 is gone")
    ranks.sum(np.zeros(3))
    (folder / "went on").write_text(json.dumps(ranks.rank))
