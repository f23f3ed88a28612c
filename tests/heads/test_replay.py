import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from replay_ranks import PART, mixed, objective
from small import ARCHITECTURE, quiet_trainer
from tones import prepared
from w2v_abx.heads.replay import Replay, take
from w2v_abx.training.supervised import Supervised

from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.contrastive import Contrastive
from w2v_abx.heads.masked_prediction import ClusterPrediction
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.microbatch import Batch

PARTS: dict[str, Callable[..., Any]] = {
    "pretrain": PART,
    "masked_prediction": functools.partial(ClusterPrediction, clusters=4, cluster_clips=4, mask_span=2, speed=1.2),
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


def fit(module: Supervised, data: ShardDataModule, out: Path, steps: int = 4) -> list[dict[str, float]]:
    logged = Steps()
    module.train()
    trainer = quiet_trainer(out, max_steps=steps, max_epochs=-1, callbacks=[logged], limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    return logged.values


def first_batch(data: ShardDataModule, module: Supervised) -> Batch:
    return next(iter(data.train_dataloader()))


@pytest.mark.parametrize("clips", ["replayed", "all"])
@pytest.mark.parametrize("part", list(PARTS))
def test_each_loss_is_a_mean_over_its_own_clips(folder: Path, part: str, clips: str) -> None:
    data = mixed(folder)
    module = objective(data, PARTS[part], {"weight": 0.3, "clips": clips})
    assert module.replay is not None
    module.replay.begin(module.encoder, data.train_dataloader())
    batch = first_batch(data, module)
    speech = [row for row, name in enumerate(batch["corpora"]) if name == "speech"]
    sounds = [row for row, name in enumerate(batch["corpora"]) if name != "speech"]
    assert len(speech) == len(sounds) == 4
    module.trainer = quiet_trainer(folder)  # for the step's number
    prepared = module.prepare(batch)
    sums = {name: value / module.normaliser(prepared) for name, value in module.loss_sum(prepared).items()}

    alone = take(batch, sounds)
    assert "speech" not in alone["corpora"]
    expected = module.heads_loss(alone)["loss"] / 4
    replayed = take(batch, speech) if clips == "replayed" else batch
    own = module.replay.part.prepare(module.encoder, replayed, 0)
    torch.manual_seed(0)
    replay = module.replay.part.loss_sum(module.encoder, own)
    normaliser = module.replay.part.normaliser(own)
    torch.testing.assert_close(sums["labels_loss"], expected)
    torch.testing.assert_close(sums["replay_loss"], replay["loss"] / normaliser)
    torch.testing.assert_close(sums["replay_accuracy"], replay["accuracy"] / normaliser)
    torch.testing.assert_close(sums["loss"], expected + 0.3 * replay["loss"] / normaliser)


@pytest.mark.parametrize("clips", ["replayed", "all"])
@pytest.mark.parametrize("part", list(PARTS))
def test_the_micro_batch_changes_nothing(folder: Path, tmp_path: Path, part: str, clips: str) -> None:
    """Some micro-batches hold clips of one kind alone."""
    results = []
    for microbatch in (None, 1, 3):
        data = mixed(folder)
        module = objective(data, PARTS[part], {"clips": clips}, microbatch=microbatch, gradient_clip_norm=1.0)
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
    assert {"heads.labels.linear.weight", "replay.part.project_hid.weight"} <= moved
    assert any(name.startswith("encoder.") for name in moved)
    assert steps[0]["train/loss"] == pytest.approx(
        steps[0]["train/labels_loss"] + 2.0 * steps[0]["train/replay_loss"], rel=1e-5
    )


def test_a_batch_may_lack_either_kind(folder: Path) -> None:
    data = mixed(folder)
    module = objective(data)
    module.trainer = quiet_trainer(folder)
    batch = first_batch(data, module)
    for kind in ("speech", "sounds"):
        rows = [row for row, name in enumerate(batch["corpora"]) if (name == "speech") == (kind == "speech")]
        prepared = module.prepare(take(batch, rows))
        sums = module.loss_sum(prepared)
        assert sums["loss"].isfinite()
        assert ("replay_loss" in sums) == (kind == "speech")
        assert ("labels_loss" in sums) == (kind != "speech")


def test_clips_without_targets_need_replay(folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.mix\.speech have no targets.*objective=multilabel_replay"):
        objective(mixed(folder), replay=None)
    objective(mixed(folder, targets=True), replay=None)


def test_replay_needs_clips(folder: Path) -> None:
    for data in (ShardDataModule(folder / "sounds", batch_size=8), mixed(folder, targets=True)):
        with pytest.raises(InputError, match=r"objective\.replay has no clips"):
            objective(data)
        objective(data, options={"clips": "all"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0.0}, r"objective\.replay\.weight=0\.0 must be above 0"),
        ({"clips": "some"}, r"objective\.replay\.clips='some' is not one of replayed, all"),
        ({"part": functools.partial(Contrastive, num_negatives=0)}, r"objective\.replay\.part\.num_negatives=0"),
    ],
)
def test_values_out_of_range_are_named(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Replay(Encoder.random(ARCHITECTURE), mixed(folder), **{"part": PART, **options})
