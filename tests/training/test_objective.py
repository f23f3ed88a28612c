import dataclasses
import functools
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small import ARCHITECTURE, quiet_trainer
from sounds import Fixed

from w2v_abx import audio, shards
from w2v_abx.clips import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.heads.weighting import DynamicAverage, Uncertainty, Weighting
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.objective import Objective
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.parameters import groups
from w2v_abx.training.saving import ExactResume


class Tones:
    """Low tones, high tones, or both; of different lengths."""

    def __init__(self, folder: Path, name: str = "tones", label: str = "labels") -> None:
        self.folder, self.name, self.label = folder, name, label

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
            made.append(Clip(path.stem, path, split=split, labels={self.label: labels, "speaker": "nobody"}))
        return made


@pytest.fixture
def data(tmp_path: Path) -> ShardDataModule:
    shards.prepare(Tones(tmp_path / "audio"), tmp_path / "shards")
    return ShardDataModule(tmp_path / "shards", batch_size=6)


def supervised(
    data: ShardDataModule,
    heads: dict[str, dict[str, Any]],
    microbatch: int | None = None,
    weighting: Weighting | None = None,
) -> Objective:
    torch.manual_seed(0)
    optimization = Optimization(functools.partial(torch.optim.AdamW, lr=1e-2), warmup_share=0.0)
    made = {name: functools.partial(Multilabel, **settings) for name, settings in heads.items()}
    encoder = Encoder.random({**ARCHITECTURE, "num_hidden_layers": 2})
    return Objective(encoder, made, data, optimization, weighting, MicroBatching(microbatch))


def fit(module: Objective, data: ShardDataModule, folder: Path, epochs: int) -> lightning.Trainer:
    trainer = quiet_trainer(folder, max_epochs=epochs)
    module.train()
    trainer.fit(module, datamodule=data)
    return trainer


def test_a_head_on_a_label_of_a_corpus_that_is_mixed_in_is_rated_on_its_clips(
    data: ShardDataModule, tmp_path: Path
) -> None:
    shards.prepare(Tones(tmp_path / "more", "whistles", "pitch"), tmp_path / "whistles")
    mix = {"whistles": {"folder": str(tmp_path / "whistles"), "weight": 0.5, "targets": True}}
    both = ShardDataModule(tmp_path / "shards", batch_size=6, mix=mix)
    module = supervised(both, {"labels": {}, "pitch": {"label": "pitch"}})
    trainer = fit(module, both, tmp_path, 1)
    for name in ("labels", "pitch"):
        assert module.results["valid"][name].metrics["clips"] == 6
        assert f"valid/{name}_map" in trainer.callback_metrics


def test_the_split_test_is_rated_beside_valid(tmp_path: Path) -> None:
    clips = Tones(tmp_path).clips()
    parted = [dataclasses.replace(clip, split="test") if number % 4 == 3 else clip for number, clip in enumerate(clips)]
    shards.prepare(Fixed(parted, "tones"), tmp_path / "shards")
    both = ShardDataModule(tmp_path / "shards", batch_size=6)
    module = supervised(both, {"labels": {}})
    trainer = fit(module, both, tmp_path, 1)
    assert module.tests
    valid = module.results["valid"]["labels"]
    trainer.test(module, datamodule=both, verbose=False)
    assert module.results["test"]["labels"].metrics["clips"] == 6
    assert {"test/labels_map", "test/loss", "test/labels_loss"} <= set(trainer.callback_metrics)
    assert module.results["valid"]["labels"] is valid


def test_a_head_that_no_held_out_clip_can_rate_is_named(data: ShardDataModule, tmp_path: Path) -> None:
    corpus = Tones(tmp_path / "more", "whistles", "pitch")
    training = [clip for clip in corpus.clips() if clip.split == "train"]
    shards.prepare(Fixed(training, "whistles"), tmp_path / "whistles")
    mix = {"whistles": {"folder": str(tmp_path / "whistles"), "weight": 0.5, "targets": True}}
    both = ShardDataModule(tmp_path / "shards", batch_size=6, mix=mix)
    with pytest.warns(UserWarning, match=r"the head 'pitch' is trained and not rated: no clip in the split 'valid'"):
        supervised(both, {"labels": {}, "pitch": {"label": "pitch"}})


def test_the_head_learns_what_it_is_told(data: ShardDataModule, tmp_path: Path) -> None:
    module = supervised(data, {"labels": {}})
    trainer = fit(module, data, tmp_path, 15)
    result = module.results["valid"]["labels"]
    metrics = result.metrics
    assert [row["category"] for row in result.rows] == ["high", "low"]
    assert metrics["clips"] == 6
    assert metrics["map"] is not None
    assert metrics["map"] > 0.95
    assert float(trainer.callback_metrics["valid/labels_map"]) == pytest.approx(metrics["map"])
    assert trainer.global_step == 15 * 3


def test_the_micro_batch_changes_nothing(data: ShardDataModule, tmp_path: Path) -> None:
    whole, split = supervised(data, {"labels": {}}), supervised(data, {"labels": {}}, microbatch=1)
    for module in (whole, split):
        fit(module, data, tmp_path, 1)
    # The bias of attention keys has no gradient but rounding, which AdamW blows up to whole steps.
    for (name, first), (_, second) in zip(whole.named_parameters(), split.named_parameters(), strict=True):
        if not name.endswith("k_proj.bias"):
            assert torch.allclose(first, second, rtol=1e-3, atol=1e-4), name


def test_several_heads_are_trained_at_once(data: ShardDataModule, tmp_path: Path) -> None:
    module = supervised(data, {"one": {}, "two": {"layers": [0, 1], "weight": 2.0}, "three": {"layers": "weighted"}})
    trainer = fit(module, data, tmp_path, 1)
    assert set(module.results["valid"]) == {"one", "two", "three"}
    for when in ("train", "valid"):
        one, two, three = (float(trainer.callback_metrics[f"{when}/{name}_loss"]) for name in module.results["valid"])
        assert len({one, two, three}) == 3
        assert float(trainer.callback_metrics[f"{when}/loss"]) == pytest.approx(one + 2 * two + three, rel=1e-5)


@pytest.mark.parametrize("weighting", [Uncertainty, DynamicAverage])
def test_the_micro_batch_changes_nothing_under_any_weighting(
    data: ShardDataModule, tmp_path: Path, weighting: type[Weighting]
) -> None:
    heads: dict[str, dict[str, Any]] = {"one": {}, "two": {"layers": [0, 1], "weight": 2.0}}
    found = []
    for microbatch in (None, 2):
        module = supervised(data, heads, microbatch, weighting())
        trainer = fit(module, data, tmp_path, 4)
        found.append((module.state_dict(), {name: float(value) for name, value in trainer.callback_metrics.items()}))
    (whole, logged), (split, again) = found
    assert logged["train/one_weight"] != logged["train/two_weight"] / 2
    assert again == pytest.approx(logged, rel=1e-3)
    for name, value in whole.items():
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(split[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("decay_all", [False, True])
def test_the_learnt_weights_of_losses_do_not_decay(data: ShardDataModule, decay_all: bool) -> None:
    module = supervised(data, {"one": {}, "two": {}}, weighting=Uncertainty())
    learnt = [
        group
        for group in groups(module, 2, layer_decay=0.5, head_factor=1.0, decay_all=decay_all)
        if any(weight is module.weighting.log_variance for weight in group["params"])
    ]
    assert [group["weight_decay"] for group in learnt] == [0.0]


def test_a_weighting_goes_on_from_a_checkpoint(data: ShardDataModule, tmp_path: Path) -> None:
    heads: dict[str, dict[str, Any]] = {"one": {}, "two": {"layers": 0}}
    found = []
    for resume in (None, tmp_path / "step=7.ckpt"):  # inside the third epoch
        module = supervised(data, heads, weighting=DynamicAverage()).train()
        saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=7)
        callbacks = [ExactResume(), saving]
        trainer = quiet_trainer(tmp_path, max_epochs=4, callbacks=callbacks, enable_checkpointing=True)
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        found.append([float(trainer.callback_metrics[f"train/{name}_weight"]) for name in heads])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_no_heads_are_refused(data: ShardDataModule) -> None:
    encoder, optimization = Encoder.random(ARCHITECTURE), Optimization(torch.optim.SGD)
    heads: list[dict[str, Any]] = [{}, {"labels": None}]
    for made in heads:
        with pytest.raises(InputError, match=r"objective\.heads is empty"):
            Objective(encoder, made, data, optimization)


def test_a_label_with_one_category_is_refused(data: ShardDataModule) -> None:
    with pytest.raises(InputError, match=r"objective\.heads\.who\.label=speaker: the training clips have 1 categories"):
        supervised(data, {"who": {"label": "speaker"}})


def test_nothing_to_train_and_no_last_step_are_refused(data: ShardDataModule, tmp_path: Path) -> None:
    module = supervised(data, {"labels": {}})
    module.requires_grad_(False)
    with pytest.raises(InputError, match="nothing trains"):
        fit(module, data, tmp_path, 1)
    with pytest.raises(InputError, match="needs a last step"):
        fit(supervised(data, {"labels": {}}), data, tmp_path, -1)
