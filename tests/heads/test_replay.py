import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from replay_ranks import CONTRASTIVE, by_kind, mixed, objective
from small import quiet_trainer
from tones import prepared

from w2v_abx.data import Batch, ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.masked_prediction import MaskedPrediction
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.heads.selfsupervised import SelfSupervisedHead
from w2v_abx.training.objective import Objective

LOSSES: dict[str, Callable[..., Any]] = {
    "contrastive": CONTRASTIVE,
    "masked_prediction": functools.partial(
        MaskedPrediction, clusters=4, cluster_clips=4, mask_time_length=2, speed=1.2
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with labels and one that is mixed in without, ``speech``."""
    folder = tmp_path_factory.mktemp("corpora")
    prepared(folder, {"train": 8, "valid": 4}, "sounds")
    prepared(folder, {"train": 8}, "speech")
    return folder


class Steps(lightning.Callback):
    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.values.append({name: value for name, value in logged.items() if name.startswith("train/")})


def fit(module: Objective, data: ShardDataModule, out: Path, steps: int = 4) -> list[dict[str, float]]:
    logged = Steps()
    module.train()
    trainer = quiet_trainer(out, max_steps=steps, max_epochs=-1, callbacks=[logged], limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    return logged.values


def first_batch(data: ShardDataModule) -> Batch:
    batch: Batch = next(iter(data.train_dataloader()))
    return batch


@pytest.mark.parametrize("clips", ["unlabelled", "all"])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_each_loss_is_a_mean_over_its_own_clips(folder: Path, loss: str, clips: str) -> None:
    data = mixed(folder)
    module = objective(data, LOSSES[loss], {"weight": 0.3, "clips": clips})
    labels, head = module.heads["labels"], module.heads["replay"]
    assert isinstance(labels, Multilabel)
    assert isinstance(head, SelfSupervisedHead)
    head.begin(module.encoder, data.train_dataloader())
    batch = first_batch(data)
    speech, sounds = by_kind(batch)
    assert len(speech) == len(sounds) == 4
    module.trainer = quiet_trainer(folder)  # for the step's number
    prepared = module.prepare(batch)
    found = module.loss(prepared, module.totals(prepared))

    alone = batch.rows(sounds)
    expected = labels.terms(module.encoder, alone)["loss"] / 4
    head.clips = "all"
    own = head.prepare(module.encoder, batch.rows(speech) if clips == "unlabelled" else batch, 0)
    replay = {name: value / head.total(own) for name, value in head.terms(module.encoder, own).items()}
    torch.testing.assert_close(found["labels_loss"], expected)
    torch.testing.assert_close(found["replay_loss"], replay["loss"])
    torch.testing.assert_close(found["replay_accuracy"], replay["accuracy"])
    torch.testing.assert_close(found["loss"], expected + 0.3 * replay["loss"])


@pytest.mark.parametrize("clips", ["unlabelled", "all"])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_the_micro_batch_changes_nothing(folder: Path, tmp_path: Path, loss: str, clips: str) -> None:
    """Some micro-batches hold clips of one kind alone."""
    results = []
    for microbatch in (None, 1, 3):
        data = mixed(folder)
        module = objective(data, LOSSES[loss], {"clips": clips}, microbatch=microbatch, gradient_clip_norm=1.0)
        results.append((fit(module, data, tmp_path), dict(module.named_parameters())))
    whole, *others = results
    assert len({step["train/replay_loss"] for step in whole[0]}) == len(whole[0])
    for losses, weights in others:
        for step, expected in zip(losses, whole[0], strict=True):
            assert step == pytest.approx(expected, rel=1e-5)
        for name, weight in weights.items():
            torch.testing.assert_close(weight, whole[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_replay_trains_both(folder: Path, tmp_path: Path) -> None:
    data = mixed(folder)
    module = objective(data, options={"weight": 2.0})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    steps = fit(module, data, tmp_path, 1)
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert {"heads.labels.linear.weight", "heads.replay.project_hid.weight"} <= moved
    assert any(name.startswith("encoder.") for name in moved)
    assert steps[0]["train/loss"] == pytest.approx(
        steps[0]["train/labels_loss"] + 2.0 * steps[0]["train/replay_loss"], rel=1e-5
    )


def test_a_batch_may_lack_either_kind(folder: Path) -> None:
    data = mixed(folder)
    module = objective(data)
    module.trainer = quiet_trainer(folder)
    batch = first_batch(data)
    for kind, rows in zip(("speech", "sounds"), by_kind(batch), strict=True):
        prepared = module.prepare(batch.rows(rows))
        found = module.loss(prepared, module.totals(prepared))
        assert found["loss"].isfinite()
        assert ("replay_loss" in found) == (kind == "speech")
        assert ("labels_loss" in found) == (kind != "speech")


def test_clips_without_targets_need_replay(folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.mix\.speech have no targets.*objective=multilabel_replay"):
        objective(mixed(folder), replay=None)
    objective(mixed(folder, targets=True), replay=None)


def test_replay_needs_clips(folder: Path) -> None:
    for data in (ShardDataModule(folder / "sounds", batch_size=8), mixed(folder, targets=True)):
        with pytest.raises(InputError, match=r"objective\.heads\.replay\.clips=unlabelled finds none"):
            objective(data)
        objective(data, options={"clips": "all"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, r"objective\.heads\.replay\.weight=-1\.0 must be"),
        ({"clips": "some"}, r"objective\.heads\.replay\.clips='some' must be one of all, unlabelled"),
        ({"num_negatives": 0}, r"objective\.heads\.replay\.num_negatives=0"),
    ],
)
def test_values_out_of_range_are_named(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        objective(mixed(folder), options=options)
