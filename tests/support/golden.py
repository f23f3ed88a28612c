"""What `tests/test_golden.py` pins, measured: it holds no test.

Audio and weights are the same bits on every processor, and what is computed from them in floating point is compared
with a tolerance. ``W2V_ABX_GOLDEN=write pytest -n 0 tests/test_golden.py`` stores anew what the code computes now.
"""

import functools
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from small import quiet_trainer

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.result import AbxResult
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.clips import Clip
from w2v_abx.config import CONF
from w2v_abx.training.objective import build

STORED = Path(__file__).resolve().parent.parent / "golden"
WRITE = os.environ.get("W2V_ABX_GOLDEN") == "write"
STEPS = 2
STEP_CLIPS = (6, 4)  # of a step: labelled ones, and speech among them where that is replayed


def stored(name: str, entry: str, found: Any, write: bool = True) -> Any:
    """Return an entry of ``tests/golden/NAME.json``; in writing mode, unless not to ``write``, make it ``found``."""
    path = STORED / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if WRITE and write:
        content[entry] = found
        lines = [f"{json.dumps(key)}: {json.dumps(content[key], sort_keys=True)}" for key in sorted(content)]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return content[entry]


# Audio out of whole numbers: no sine, hence the same samples everywhere


def noise(name: str, samples: int) -> npt.NDArray[np.int64]:
    """Return white noise from -32768 to 32767, a function of ``name``."""
    return np.frombuffer(hashlib.shake_128(name.encode()).digest(2 * samples), "<i2").astype(np.int64)


def triangle(period: int, samples: int) -> npt.NDArray[np.int64]:
    """Return a triangle wave from -8192 to 8192 of ``period`` samples."""
    return 8192 - np.abs(2 * (np.arange(samples) % period) - period) * 16384 // period


def sound(name: str, samples: int, periods: Sequence[int], noisy: int = 16) -> npt.NDArray[np.int16]:
    """Return triangle waves one after another in noise that is ``noisy`` times as soft as full scale."""
    parts = [triangle(period, -(-samples // len(periods))) for period in periods]
    return (np.concatenate(parts)[:samples] + noise(name, samples) // noisy).astype(np.int16)


class Waves:
    """A corpus of waves in noise, written as 16-bit files below ``folder``."""

    PERIODS: Mapping[str, int] = {"low": 90, "middle": 41, "high": 7}

    def __init__(self, folder: Path, clips: Mapping[str, int], name: str = "waves", samples: int = 6_400) -> None:
        """``clips``: how many of each split; ``samples`` of the shortest."""
        self.folder, self.counts, self.name, self.samples = folder, clips, name, samples

    def clips(self) -> list[Clip]:
        self.folder.mkdir(parents=True, exist_ok=True)
        made = []
        for split, count in self.counts.items():
            for number in range(count):
                key = f"{self.name}-{split}{number:02d}"
                kinds = [list(self.PERIODS)[(number + step * step) % 3] for step in range(1 + number % 3)]
                samples = self.samples + self.samples * (7 * number % 11) // 8
                path = self.folder / f"{key}.wav"
                sf.write(path, sound(key, samples, [self.PERIODS[kind] for kind in kinds]), 16_000)
                made.append(Clip(path.stem, path, split=split, labels={"labels": sorted(set(kinds))}, licence="CC0"))
        return made


# Training steps


@functools.cache  # which takes a second
def config_of(*overrides: str) -> Any:
    """Compose what ``w2v-abx train`` would with the ``overrides``."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


OBJECTIVES: dict[str, list[str]] = {  # command lines; FOLDER and SPEECH stand for prepared folders
    "multilabel": ["objective=multilabel"],
    "multilabel_specaugment": ["objective=multilabel", "objective/masking=specaugment"],
    "replay_masked_prediction": [
        "objective=multilabel_replay",
        "objective.heads.replay.clusters=20",
        "objective.heads.replay.weight=0.7",
        "data=replay",
        "data.mix.speech.folder=SPEECH",
        "data.mix.speech.weight=0.4",
    ],
    "replay_pretrain": [
        "objective=multilabel_replay",
        "head@objective.heads.replay=replayed_contrastive",
        "data=replay",
        "data.mix.speech.folder=SPEECH",
        "data.mix.speech.weight=0.4",
    ],
    "masked_prediction": [
        "objective=masked_prediction",
        "objective.heads.clusters.clusters=20",
        "objective.heads.clusters.unmasked_weight=0.5",
        "objective.heads.clusters.speed=1.2",
    ],
    "masked_prediction_random": [
        "model=tiny_random",
        "objective=masked_prediction",
        "objective.heads.clusters.clusters=20",
    ],
    "pretrain": ["objective=pretrain", "objective.heads.wav2vec2.folder=null"],
}
# Plain gradient descent: Adam would blow the rounding of vanishing gradients up to whole steps.
DESCENT = (
    "~optimizer.optimizer.betas",
    "optimizer.optimizer._target_=torch.optim.SGD",
    "optimizer.optimizer.lr=0.02",
    "optimizer/schedule=constant",
    "optimizer.warmup_share=0",
    "optimizer.layer_decay=0.9",
    "optimizer.head_factor=2",
)


def make_objective(kind: str, folder: Path, speech: Path, microbatch: int | None) -> tuple[Any, Any]:
    """Build an objective and its data module from the configuration, for batches of all clips of both folders.

    The one place that knows how objectives are composed.
    """
    config = config_of(
        f"data.folder={folder}",
        f"data.batch_size={sum(STEP_CLIPS) if 'replay' in kind else STEP_CLIPS[0]}",
        f"microbatch.clips={'null' if microbatch is None else microbatch}",
        *DESCENT,
        *(text.replace("SPEECH", str(speech)) for text in OBJECTIVES[kind]),
    )
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    encoder, data = instantiate(config.model), instantiate(config.data)
    objective = build(config, encoder, data)
    for module in objective.modules():
        if hasattr(module, "centroids"):  # else k-means finds them, where each iteration could tip a frame over
            drawn = np.random.default_rng(0).integers(-1000, 1001, tuple(module.centroids.shape))
            module.centroids.copy_(torch.from_numpy(drawn / 600))
    return objective, data


def train_steps(kind: str, folder: Path, speech: Path, microbatch: int | None = None) -> dict[str, Any]:
    """Return what the first steps of an objective log, their gradients' norms, and fingerprints of the weights.

    A step takes all clips, so that their order does not matter.
    """
    objective, data = make_objective(kind, folder, speech, microbatch)
    before = {name: value.detach().clone() for name, value in objective.named_parameters()}
    read = OBJECTIVES[kind][0] != "model=tiny_random"  # what is drawn rests on rounding of logarithms
    encoder = digest(before) if read else None
    told = Told()
    trainer = quiet_trainer(folder, max_steps=STEPS, max_epochs=-1, callbacks=[told], limit_val_batches=0)
    objective.train()
    trainer.fit(objective, datamodule=data)
    update = {name: value.detach() - before[name] for name, value in objective.named_parameters()}
    return {
        "parameters": sum(value.numel() for value in before.values()),
        "encoder": encoder,
        "weights": projections(before),
        "logged": told.logged,
        "gradient_norms": told.norms,
        "update": projections(update),
    }


class Told(lightning.Callback):
    """What each step logs, and the norm of its gradient before it is clipped."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.norms: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        gradients = [value.grad.double().square().sum() for value in pl_module.parameters() if value.grad is not None]
        self.norms.append(float(torch.stack(gradients).sum().sqrt()))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        metrics = trainer.callback_metrics.items()
        self.logged.append({name: float(value) for name, value in sorted(metrics) if name.startswith("train/")})


ENCODER = "encoder.model."  # what comes before an encoder's names in Hugging Face's layout


def digest(parameters: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of an encoder's parameters by name."""
    found = hashlib.sha256()
    for name, value in sorted(parameters.items()):
        if name.startswith(ENCODER):
            found.update(name.removeprefix(ENCODER).encode() + value.numpy().tobytes())
    return found.hexdigest()


def projections(tensors: Mapping[str, torch.Tensor], number: int = 4) -> dict[str, Any]:
    """Return the norm of tensors taken as one vector, and sums of its values under random signs.

    The signs of an encoder's tensor follow from its name, those of another from its shape, so that it may move to
    another module.
    """
    sums, square = np.zeros(number), 0.0
    for name, tensor in tensors.items():
        values = tensor.numpy().astype(np.float64).ravel()
        seed = zlib.crc32((name if name.startswith(ENCODER) else str(tuple(tensor.shape))).encode())
        drawn = np.frombuffer(np.random.default_rng(seed).bytes(number * len(values)), np.int8)
        sums += np.where(drawn < 0, -1.0, 1.0).reshape(number, -1) @ values
        square += float(values @ values)
    return {"norm": square**0.5, "sums": sums.tolist()}


# Orders

ORDERS: dict[str, list[str]] = {
    "plain": [],
    "workers": ["data.num_workers=2"],
    "drop_last": ["data.drop_last=true"],
    "balance": ["data.balance=labels"],
    "mix": ["data=replay", "data.mix.speech.folder=SPEECH", "data.mix.speech.weight=0.3"],
    "batch_seconds": ["data.batch_seconds=0.9", "data.max_padding=0.3"],
    "like_length": ["data.like_length=3"],
    "mix_seconds": [
        "data=replay",
        "data.mix.speech.folder=SPEECH",
        "data.mix.speech.weight=0.3",
        "data.batch_seconds=0.9",
        "data.max_padding=0.3",
    ],
}


def data_of(kind: str, folder: Path, speech: Path, seed: int = 0) -> Any:
    """Return the data module of a kind of order."""
    wanted = [text.replace("SPEECH", str(speech)) for text in ORDERS[kind]]
    config = config_of(f"data.folder={folder}", "data.batch_size=4", "data.shuffle=6", *wanted)
    return instantiate(config.data, seed=seed)


def keys_of(loader: Any, epoch: int = 0, batches: int = 0) -> Iterator[list[str]]:
    """Yield the keys of each batch of an epoch from the batch number ``batches`` on."""
    loader.load_state_dict({**loader.state_dict(), "epoch": epoch, "batches": batches})
    for batch in loader:
        yield list(batch.keys)


# ABX

MEASURED = ("score", "size", "delta_sum", "delta_square_sum", "distance_mean")
PHONES = {"a": (23, 61), "i": (11, 97), "u": (71, 131)}  # periods of two waves
SPEAKERS = {"ann": (5, 6), "bob": (6, 5), "cy": (7, 5)}  # times and divisor of these periods
COLUMNS = "#file onset offset #phone prev-phone next-phone speaker"


def write_speech(folder: Path) -> Path:
    """Write recordings of speakers who say each phone a few times, and an item file; return that."""
    rows = [COLUMNS]
    for speaker, (times, divisor) in SPEAKERS.items():
        for take in range(3):
            samples, onset = [noise(f"{speaker}{take}", 1_600) // 64], 1_600
            for number, phone in enumerate("aiuuai"):
                count = 1_600 + 160 * ((7 * number + 3 * take) % 5)
                first, second = (triangle(period * times // divisor, count) for period in PHONES[phone])
                hiss = noise(f"{speaker}{take}{number}", count) // 2
                samples.append((first + second) // 2 + hiss)
                context = "t k" if number < 3 else "p s"
                rows.append(
                    f"{speaker}{take} {onset / 16_000:.3f} {(onset + count) / 16_000:.3f} {phone} {context} {speaker}"
                )
                onset += count
            sf.write(folder / f"{speaker}{take}.wav", np.concatenate(samples).astype(np.int16), 16_000)
    path = folder / "waves.item"
    path.write_text("\n".join(rows) + "\n")
    return path


def abx_of(folder: Path) -> AbxResult:
    """Score the shipped tiny model on `write_speech`."""
    config = config_of("abx=item_file", f"abx.items={write_speech(folder)}", f"abx.root={folder}")
    speech, setting = instantiate(config.abx.speech), AbxSetting.of(config.abx)
    return evaluate("tiny", instantiate(config.model), speech, setting, quiet_trainer(folder))


def cells_of(result: AbxResult) -> dict[str, dict[str, Any]]:
    """Return, of each layer and condition, the error and the measures of all cells in the order of their labels."""
    found = {}
    for (layer, condition), scores in result.scores.items():
        labels = sorted(name for name in scores.cells.columns if name not in MEASURED)
        cells = scores.cells.sort(labels)
        found[f"{layer} {condition}"] = {
            "error": round(result.error(layer, condition), 6),
            "cells": hashlib.sha256(cells.select(*labels, "size").write_csv().encode()).hexdigest(),
            "score": [round(value, 4) for value in cells["score"]],
            "distance": [round(value, 6) for value in cells["distance_mean"]],
            "delta": [round(value, 6) for value in cells["delta_sum"] / cells["size"]],
        }
    return found
