import functools
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from small import ARCHITECTURE, quiet_trainer
from w2v_abx.training.supervised import Supervised

from w2v_abx import audio, shards
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.optimization import Optimization


class Tones:
    """Low tones, high tones, or both; of different lengths."""

    name = "tones"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clips(self) -> list[Clip]:
        rng = np.random.default_rng(0)
        made = []
        for number in range(24):
            time = np.arange(int(rng.integers(6_000, 12_000))) / 16_000
            low, high = np.sin(2 * np.pi * 200 * time), np.sin(2 * np.pi * 3_000 * time)
            labels = [["low"], ["high"], ["high", "low"]][number % 3]
            samples = sum({"low": low, "high": high}[label] for label in labels)
            path = self.folder / f"{number:02d}.wav"
            audio.save(path, (0.2 * samples).astype(np.float32))
            split = "valid" if number >= 18 else "train"
            made.append(Clip(path.stem, path, split=split, labels={"labels": labels, "speaker": "nobody"}))
        return made


@pytest.fixture
def data(tmp_path: Path) -> ShardDataModule:
    shards.prepare(Tones(tmp_path / "audio"), tmp_path / "shards")
    return ShardDataModule(tmp_path / "shards", batch_size=6)


def supervised(data: ShardDataModule, heads: dict[str, str], microbatch: int | None = None) -> Supervised:
    torch.manual_seed(0)
    optimization = Optimization(functools.partial(torch.optim.AdamW, lr=1e-2), warmup_share=0.0)
    made = {name: functools.partial(Multilabel, target=target) for name, target in heads.items()}
    return Supervised(Encoder.random(ARCHITECTURE), data, made, optimization, microbatch=microbatch)


def fit(module: Supervised, data: ShardDataModule, folder: Path, epochs: int) -> lightning.Trainer:
    trainer = quiet_trainer(folder, max_epochs=epochs)
    module.train()
    trainer.fit(module, datamodule=data)
    return trainer


def test_the_head_learns_what_it_is_told(data: ShardDataModule, tmp_path: Path) -> None:
    module = supervised(data, {"labels": "labels"})
    trainer = fit(module, data, tmp_path, 15)
    metrics = module.head_metrics["labels"]
    assert list(metrics["categories"]) == ["high", "low"]
    assert metrics["clips"] == 6
    assert metrics["map"] > 0.95
    assert float(trainer.callback_metrics["valid/labels_map"]) == pytest.approx(metrics["map"])
    assert trainer.global_step == 15 * 3


def test_the_micro_batch_changes_nothing(data: ShardDataModule, tmp_path: Path) -> None:
    whole, split = supervised(data, {"labels": "labels"}), supervised(data, {"labels": "labels"}, microbatch=1)
    for module in (whole, split):
        fit(module, data, tmp_path, 1)
    # The bias of attention keys has no gradient but rounding, which AdamW blows up to whole steps.
    for (name, first), (_, second) in zip(whole.named_parameters(), split.named_parameters(), strict=True):
        if not name.endswith("k_proj.bias"):
            assert torch.allclose(first, second, rtol=1e-3, atol=1e-4), name


def test_several_heads_are_trained_at_once(data: ShardDataModule, tmp_path: Path) -> None:
    module = supervised(data, {"one": "labels", "two": "labels"})
    trainer = fit(module, data, tmp_path, 1)
    assert set(module.head_metrics) == {"one", "two"}
    total = float(trainer.callback_metrics["train/one_loss"] + trainer.callback_metrics["train/two_loss"])
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(total, rel=1e-5)


def test_a_label_with_one_category_is_refused(data: ShardDataModule) -> None:
    with pytest.raises(InputError, match="'speaker' has 1 categories"):
        supervised(data, {"speaker": "speaker"})


def test_nothing_to_train_and_no_last_step_are_refused(data: ShardDataModule, tmp_path: Path) -> None:
    module = supervised(data, {"labels": "labels"})
    module.requires_grad_(False)
    with pytest.raises(InputError, match="nothing trains"):
        fit(module, data, tmp_path, 1)
    with pytest.raises(InputError, match="needs a last step"):
        fit(supervised(data, {"labels": "labels"}), data, tmp_path, -1)
