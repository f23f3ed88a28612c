"""A training with dropout and layer drop in processes that are killed.

`python tests/support/killable.py` reads JSON orders.

It imports everything once and forks for each order: a process is then there within a tenth of a second, and it is a
process like any other to whoever kills it. Nothing has a thread, or has used polars, before the fork.
"""

import json
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from small import ARCHITECTURE, quiet_trainer
from torch import Tensor, nn

from w2v_abx.data import ShardDataModule
from w2v_abx.data.batch import Batch
from w2v_abx.models.encoder import Encoder
from w2v_abx.shards import index
from w2v_abx.training.microbatch import ElasticModule, MicroBatching
from w2v_abx.training.saving import Checkpoints, ExactResume, MetricsCsv
from w2v_abx.training.saving.files import checkpoint_of

DROPPING = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "feat_proj_dropout": 0.1}


class Killable(ElasticModule):
    """A tiny encoder and a layer; says on ``line`` when a step begins, and in ``seen.txt`` with which clips."""

    def __init__(self, folder: Path, line: int) -> None:
        super().__init__(MicroBatching(clips=3), gradient_clip_norm=1.0)
        torch.manual_seed(0)
        self.encoder = Encoder.random({**ARCHITECTURE, **DROPPING, "num_hidden_layers": 3, "layerdrop": 0.3})
        self.layer = nn.Linear(16, 1)
        self.seen = os.open(folder / "seen.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.line = line

    def prepare(self, batch: Batch) -> Batch:
        drawn = [float(torch.rand(())), float(np.random.rand()), random.random()]  # noqa: NPY002
        os.write(self.seen, (json.dumps([self.global_step, *batch.keys, drawn]) + "\n").encode())
        os.write(self.line, b".")
        return batch

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        hidden, _ = self.encoder(micro.waveforms, micro.lengths, [3])
        errors = self.layer(hidden[0]).mean((1, 2)) - 10 * micro.waveforms.std(1)
        return {"loss": errors.square().sum() / totals["clips"]}

    def validation_step(self, batch: Batch, index: int) -> None:
        self.log("valid/loss", self.loss(batch, {"clips": 1.0})["loss"], batch_size=len(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (2 * steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(order: dict[str, Any], line: int) -> None:
    """Go on from the newest whole checkpoint to the end, and write what came of it."""
    folder = Path(order["folder"])
    module = Killable(folder, line)
    checkpoint = checkpoint_of(folder)
    lightning.seed_everything(1, verbose=False)
    trainer = quiet_trainer(
        folder,
        logger=MetricsCsv(folder),
        enable_checkpointing=True,
        callbacks=[
            ExactResume(),
            Checkpoints(
                folder / "checkpoints", every_steps=order["every_steps"], monitor="valid/loss", mode="min", keep=2
            ),
        ],
        max_epochs=order["epochs"],
        log_every_n_steps=1,
    )
    data = ShardDataModule(order["shards"], batch_size=4, num_workers=order["workers"], crop_seconds=0.15)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    end = folder / ".end.pt"
    optimizer = trainer.optimizers[0].state_dict()["state"]
    torch.save({"weights": module.state_dict(), "optimizer": optimizer, "random": torch.get_rng_state()}, end)
    end.rename(folder / "end.pt")


def run(order: dict[str, Any]) -> int:
    """Train in a new process; kill it so many seconds after it began so many steps. Its exit status."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        index.PROCESS = os.getpid()
        status = 1
        try:
            train(order, writing)
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    begun = 0
    while begun < order["kill_after_steps"] and os.read(reading, 1):
        begun += 1
    if begun == order["kill_after_steps"]:
        time.sleep(order["kill_after_seconds"])
        os.kill(child, signal.SIGKILL)
    while os.read(reading, 4096):  # so that it never waits for its words to be read
        pass
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for told in sys.stdin:
        print("status", run(json.loads(told)), flush=True)
