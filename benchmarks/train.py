"""Fine-tuning wav2vec 2.0 base on 10 s clips, beside what one would write with Hugging Face's Trainer.

    python benchmarks/train.py                                  # a CPU, float32: half an hour on two cores
    python benchmarks/train.py --device cuda --precision bf16 --micro 32
    python benchmarks/train.py --profile

Both sides have random weights, a frozen convolutional encoder, 108 categories, binary cross-entropy, the default
dropouts, fused AdamW, clipped gradients, an effective batch of 32 in micro-batches of ``--micro`` clips, and the same
precision. The peer is `Wav2Vec2ForSequenceClassification` (whose own loss knows one category a clip, so that it is
given this one) in a `Trainer`; ours is `Objective` in Lightning's. ``--compile`` (the default on a GPU) compiles our
blocks.

First the features and the gradients of both, without dropout, are compared. Then they take turns, each in a process of
its own: with the clips in memory, and again from a disk, where the peer reads single WAVs with worker processes and
ours reads shards. Prints clips per second, the ratios of the rounds, the share of the device's rate of matrix products
that our operations come to, and the largest memory of each side: on a GPU what PyTorch allocated, on a CPU that of the
process.
"""

import argparse
import io
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import numpy as np
import soundfile as sf
import torch
from extraction import convolutional_operations, operations, product_rate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.clips import Clip
from w2v_abx.config import CONF
from w2v_abx.data import ShardDataModule
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.models.encoder import Encoder
from w2v_abx.shards import prepare
from w2v_abx.system.machine import ENVIRONMENT
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.trainers import training_trainer

SECONDS = 10
CATEGORIES = 108
BATCH = 32
RATE = 1e-5  # of learning: nothing is to be learnt
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Clock:
    """When each step ended, the device having done its work."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ends = device, list[float]()

    def tick(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ends.append(time.perf_counter())


class Ticking(lightning.Callback):
    def __init__(self, clock: Clock, steps: set[int]) -> None:
        self.clock, self.steps = clock, steps

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step in self.steps:  # the device is not made to wait between them
            self.clock.tick()


class TrainerTicking(TrainerCallback):
    def __init__(self, clock: Clock, steps: set[int]) -> None:
        self.clock, self.steps = clock, steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step in self.steps:
            self.clock.tick()


class Noises:
    """A corpus: clips of noise with random categories, a WAV each."""

    name = "noises"

    def __init__(self, folder: Path, clips: int) -> None:
        generator = np.random.default_rng(0)
        self.paths = [folder / f"{number:05d}.wav" for number in range(clips)]
        self.labels = generator.random((clips, CATEGORIES)) < 0.03
        self.labels[np.arange(clips), np.arange(clips) % CATEGORIES] = True
        if folder.exists():
            return
        folder.mkdir(parents=True)
        for path in self.paths:
            sf.write(path, 0.1 * generator.standard_normal(SECONDS * SAMPLE_RATE), SAMPLE_RATE, subtype="PCM_16")

    def clips(self) -> list[Clip]:
        names = np.array([f"category {number:03d}" for number in range(CATEGORIES)])
        return [
            Clip(path.stem, path, split="train" if number % 8 else "valid", labels={"labels": names[row].tolist()})
            for number, (path, row) in enumerate(zip(self.paths, self.labels, strict=True))
        ]


class InMemory(ShardDataModule):
    """The batches of an epoch, made once."""

    held: list[Any] | None = None

    def train_dataloader(self) -> Any:
        self.held = self.held or list(super().train_dataloader())
        return DataLoader(self.held, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]


class Files(Dataset[dict[str, Tensor]]):
    """What the peer reads: single WAVs, or the same in memory."""

    def __init__(self, corpus: Noises, in_memory: bool) -> None:
        self.paths, self.labels = corpus.paths, torch.from_numpy(corpus.labels).float()
        self.extract = Wav2Vec2FeatureExtractor(do_normalize=True)
        self.held = [self._read(path) for path in self.paths] if in_memory else None

    def _read(self, path: Path) -> Tensor:
        samples, _ = sf.read(path, dtype="float32")
        values: Tensor = self.extract(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_values"][0]
        return values

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        values = self._read(self.paths[index]) if self.held is None else self.held[index]
        return {"input_values": values, "labels": self.labels[index]}


def multilabel_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    total = functional.binary_cross_entropy_with_logits(outputs.logits.float(), labels, reduction="sum")
    return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


def configuration() -> Wav2Vec2Config:
    config = Wav2Vec2Config(layerdrop=0.0, mask_time_prob=0.0)
    config.num_labels = CATEGORIES
    return config


class Bench:
    """Both sides on one device."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments, self.folder = arguments, folder
        self.device: torch.device = arguments.device
        self.steps = {arguments.warmup, arguments.warmup + arguments.steps}
        # No epoch ends in what is timed: the peer starts its worker processes anew for each.
        self.corpus = Noises(folder / "wavs", BATCH * (max(self.steps) + 3) * 8 // 7)
        prepare(self.corpus, folder / "shards", format="wav", console=Console(file=io.StringIO()))
        self.files: dict[bool, Files] = {}

    def encoder(self) -> Encoder:
        compile: bool = self.arguments.compile
        return Encoder.random(configuration().to_dict(), 0, train="transformer", compile=compile)

    def peer(self) -> Any:
        torch.manual_seed(0)
        model = Wav2Vec2ForSequenceClassification(configuration())
        model.freeze_feature_encoder()
        return model

    def ours(self, in_memory: bool) -> list[float]:
        clock = Clock(self.device)
        workers = 0 if in_memory else self.arguments.workers
        module = InMemory if in_memory else ShardDataModule
        data = module(self.folder / "shards", batch_size=BATCH, num_workers=workers, drop_last=True)
        objective = Objective(
            self.encoder(),
            {"labels": Multilabel},
            data,
            Optimization(partial(torch.optim.AdamW, lr=RATE), gradient_clip_norm=1.0),
            microbatch=MicroBatching(clips=self.arguments.micro),
        )
        objective.train()
        settings = OmegaConf.load(CONF / "trainer" / "default.yaml")
        settings.update(
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            precision="bf16-mixed" if self.arguments.precision == "bf16" else "32-true",
            max_steps=max(self.steps),
            limit_val_batches=0,
            enable_progress_bar=False,
            default_root_dir=str(self.folder),
        )
        assert isinstance(settings, DictConfig)
        trainer = training_trainer(settings, logger=False, enable_checkpointing=False, callbacks=[self.ticking(clock)])
        trainer.fit(objective, datamodule=data)
        return clock.ends

    def ticking(self, clock: Clock) -> lightning.Callback:
        return Ticking(clock, self.steps)

    def theirs(self, in_memory: bool) -> list[float]:
        clock = Clock(self.device)
        if in_memory not in self.files:
            self.files[in_memory] = Files(self.corpus, in_memory)
        settings = TrainingArguments(
            str(self.folder / "trainer"),
            per_device_train_batch_size=self.arguments.micro,
            gradient_accumulation_steps=BATCH // self.arguments.micro,
            max_steps=max(self.steps),
            learning_rate=RATE,
            max_grad_norm=1.0,
            bf16=self.arguments.precision == "bf16",
            use_cpu=self.device.type == "cpu",
            dataloader_num_workers=0 if in_memory else self.arguments.workers,
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            self.peer(),
            settings,
            train_dataset=self.files[in_memory],
            compute_loss_func=multilabel_loss,
            callbacks=[TrainerTicking(clock, self.steps)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock.ends

    def difference(self) -> tuple[float, float]:
        """Largest relative difference of features and of gradients between the sides, without dropout."""
        encoder, model = self.encoder(), self.peer()
        model.wav2vec2.load_state_dict(encoder.model.state_dict())
        encoder.to(self.device), model.to(self.device)
        clips = torch.stack([Files(self.corpus, False)[number]["input_values"] for number in range(2)])
        for module in (encoder, model):
            module.train()
            for part in module.modules():
                if isinstance(part, nn.Dropout):
                    part.p = 0.0
                elif hasattr(part, "dropout") and isinstance(part.dropout, float):
                    part.dropout = 0.0
        lengths = torch.full((2,), clips.shape[1])
        features = [
            encoder(clips.to(self.device), lengths, [encoder.n_layers - 1]).layers[0],
            model.wav2vec2(clips.to(self.device)).last_hidden_state,
        ]
        weights = [encoder.model, model.wav2vec2]
        gradients = []
        for hidden, module in zip(features, weights, strict=True):
            hidden.square().mean(1).sin().sum().backward()
            gradients.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        worst = max(
            relative(gradients[0][name], gradients[1][name]) for name in gradients[0] if ".k_proj.bias" not in name
        )
        return relative(*features), worst


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).float().norm() / b.float().norm().clamp(min=1e-12))


class Profiling(Ticking):
    """From the first tick to the last."""

    def __init__(self, profile: torch.profiler.profile, clock: Clock, steps: set[int]) -> None:
        super().__init__(clock, steps)
        self.profile = profile

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        super().on_train_batch_end(trainer, *arguments)
        if trainer.global_step == min(self.steps):
            self.profile.start()
        elif trainer.global_step == max(self.steps):
            self.profile.stop()


def profiled(bench: Bench) -> None:
    """Where the time of our timed steps goes."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if bench.device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    profile = torch.profiler.profile(activities=kinds)
    bench.ticking = lambda clock: Profiling(profile, clock, bench.steps)  # type: ignore[method-assign]
    bench.ours(in_memory=True)
    order = "self_cuda_time_total" if bench.device.type == "cuda" else "self_cpu_time_total"
    print(profile.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=45))


def alone(bench: Bench, side: str, in_memory: bool) -> tuple[float, float]:
    """Clips per second and MiB of a side in a process of its own, so that neither profits from what the other sets."""
    given = bench.arguments
    compiling = "--compile" if given.compile else "--no-compile"
    command = [sys.executable, __file__, "--only", side, "--folder", str(bench.folder), compiling]
    for name in ("device", "precision", "micro", "steps", "warmup", "workers"):
        command += [f"--{name}", str(getattr(given, name))]
    command += [] if in_memory else ["--disk"]
    environment = {**os.environ, **ENVIRONMENT}
    if side == "theirs":  # a benchmark on a busy machine is not to show what threads that spin do to each other
        environment.pop("THP_MEM_ALLOC_ENABLE")
    answer = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout
    rate, memory = json.loads(answer.splitlines()[-1])
    return rate, memory


def measured(bench: Bench) -> tuple[float, float]:
    """Of the side that ``--only`` names."""
    arguments = bench.arguments
    ends = getattr(bench, arguments.only)(not arguments.disk)
    if bench.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(bench.device)
    else:
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return arguments.steps * BATCH / (ends[1] - ends[0]), memory / 2**20


def turns(bench: Bench, in_memory: bool, peak: Callable[[], float], work: int) -> Iterator[str]:
    where = "in memory" if in_memory else "from a disk"
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    memories: dict[str, list[float]] = {"ours": [], "theirs": []}
    shares = []
    for _ in range(bench.arguments.rounds):
        for side, found in rates.items():
            rate, memory = alone(bench, side, in_memory)
            found.append(rate)
            memories[side].append(memory)
        shares.append(rates["ours"][-1] * work / peak())
    ours, theirs = (median(found) for found in rates.values())
    each = ", ".join(f"{a / b:.2f}" for a, b in zip(*rates.values(), strict=True))
    yield (
        f"clips {where}: ours {ours:.3f} clips/s, Trainer {theirs:.3f} clips/s, ratio {ours / theirs:.2f} "
        f"(each round: {each}); ours at {100 * median(shares):.0f} % of the measured matrix rate"
    )
    most = ", ".join(f"{side} {max(found):.0f} MiB" for side, found in memories.items())
    yield f"clips {where}, largest memory: {most}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--micro", type=int, help="clips at once: 4 on a CPU, 32 elsewhere")
    parser.add_argument("--steps", type=int, help="that are timed: 1 on a CPU, 20 elsewhere")
    parser.add_argument("--warmup", type=int, help="steps before them: 1 on a CPU, 10 elsewhere")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="threads of ours, processes of the peer, from a disk")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="our blocks; default: on a GPU")
    parser.add_argument("--profile", action="store_true", help="only show where the time of our step goes")
    parser.add_argument("--only", choices=("ours", "theirs"), help="run one side; print its clips per second and MiB")
    parser.add_argument("--disk", action="store_true", help="with --only: read from a disk")
    parser.add_argument("--folder", type=Path, help="where the clips are or will be made; default: one that is removed")
    arguments = parser.parse_args()
    host = arguments.device.type == "cpu"
    for name, on_cpu, elsewhere in (("micro", 4, 32), ("steps", 1, 20), ("warmup", 1, 10), ("compile", False, True)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, on_cpu if host else elsewhere)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(arguments, arguments.folder or Path(name))
        if arguments.only:
            print(json.dumps(measured(bench)))
            return
        if arguments.profile:
            profiled(bench)
            return
        features, gradients = bench.difference()
        print(f"largest relative difference: features {features:.1e}, gradients {gradients:.1e}", flush=True)
        encoder = bench.encoder()
        # A backward pass takes two products for each of the forward pass, and none where nothing trains.
        samples = SECONDS * SAMPLE_RATE
        work = 3 * operations(encoder, samples) - 2 * convolutional_operations(encoder, samples)
        del encoder
        peak = partial(product_rate, arguments.device, PRECISIONS[arguments.precision])
        for in_memory in (True, False):
            for line in turns(bench, in_memory, peak, work):
                print(line, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
