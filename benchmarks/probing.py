"""Probing a frozen encoder with a learnt mixture of its layers: features read from disk, beside computed in each step.

    python benchmarks/probing.py                                # a CPU: the pretrained tiny model
    python benchmarks/probing.py --device cuda --clips 2000     # wav2vec 2.0 base with random weights

Both sides train the same `Objective` (head=utterance, layers=weighted) on the same shards of noises of 2 to 8 s, in
batches of 16, in turns. Prints, for each round, the median time of a step (an epoch's first left out) and of a whole
run with its validations; the first of the stored runs extracts, the others find what it stored. Then the ratios of the
medians over the rounds, and the largest difference between the weights that both sides end with.
"""

import argparse
import logging
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import numpy as np
import soundfile as sf
import torch
from transformers import Wav2Vec2Config

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.clips import Clip
from w2v_abx.config import PACKAGE
from w2v_abx.data import ShardDataModule
from w2v_abx.features.cache import FeatureCache
from w2v_abx.heads.utterance import Utterance
from w2v_abx.models.encoder import Encoder
from w2v_abx.shards import prepare
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization

BATCH = 16  # clips
PICKS = (lambda found: median(found[0]), lambda found: found[1])


class Noises:
    """Noise of one of eight speakers."""

    name = "noises"

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number

    def clips(self) -> list[Clip]:
        generator, made = np.random.default_rng(0), []
        for number in range(self.number):
            path = self.folder / f"{number:05d}.wav"
            sf.write(path, 0.1 * generator.standard_normal(int(generator.uniform(2, 8) * SAMPLE_RATE)), SAMPLE_RATE)
            split = "valid" if number % 10 == 9 else "train"
            made.append(Clip(path.stem, path, split=split, labels={"speaker": f"speaker {number % 8}"}))
        return made


class Clock(lightning.Callback):
    """The seconds from each batch's end to the next one's, without those of an epoch's first batch."""

    def __init__(self) -> None:
        self.steps: list[list[float]] = []
        self.last = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.steps.append([])

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *others: Any) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.last:
            self.steps[-1].append(now - self.last)
        self.last = now

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.last = 0.0


def probe(folder: Path, gigabytes: float, arguments: argparse.Namespace) -> tuple[list[float], float, torch.Tensor]:
    """Train; return the seconds of the steps, those of the whole run, and the head's weights."""
    torch.manual_seed(0)
    data = ShardDataModule(folder / "shards", batch_size=BATCH)
    if arguments.device == "cpu":
        encoder = Encoder.load(PACKAGE / "pretrained" / "tiny", train="head")
    else:
        encoder = Encoder.random(Wav2Vec2Config().to_dict(), train="head")
    heads = {"speaker": partial(Utterance, label="speaker", layers="weighted")}
    optimization = Optimization(partial(torch.optim.AdamW, lr=1e-3))
    module = Objective(encoder, heads, data, optimization, frozen=FeatureCache(folder / "features", gigabytes))
    clock = Clock()
    trainer = lightning.Trainer(
        accelerator=arguments.device,
        devices=1,
        max_epochs=arguments.epochs,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module.train()
    began = time.perf_counter()
    trainer.fit(module, datamodule=data)
    took = time.perf_counter() - began
    assert bool(data.stored) == bool(gigabytes)
    weights = torch.cat([weight.detach().flatten().cpu() for weight in module.heads.parameters()])
    return [step for steps in clock.steps for step in steps], took, weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    found: dict[str, list[tuple[list[float], float, torch.Tensor]]] = {"computed": [], "stored": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "raw").mkdir()
        prepare(Noises(folder / "raw", arguments.clips), folder / "shards")
        for number in range(arguments.rounds):
            for side, gigabytes in (("computed", 0), ("stored", 100)):
                found[side].append(probe(folder, gigabytes, arguments))
            told = ", ".join(
                f"{side} {1e3 * median(rounds[-1][0]):.2f} ms a step and {rounds[-1][1]:.2f} s a run"
                for side, rounds in found.items()
            )
            print(f"round {number}: {told}")
    step, run = ({side: median(pick(each) for each in rounds) for side, rounds in found.items()} for pick in PICKS)
    worst = max(float((a[2] - b[2]).abs().max()) for a, b in zip(*found.values(), strict=True))
    print(
        f"median over rounds: a step is {step['computed'] / step['stored']:.1f} times faster stored, a run "
        f"{run['computed'] / run['stored']:.1f} times, the one that extracts "
        f"{found['computed'][0][1] / found['stored'][0][1]:.1f} times; largest difference of weights {worst:.1e}"
    )


if __name__ == "__main__":
    main()
