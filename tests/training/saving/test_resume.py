"""Which checkpoint a run goes on from, and which run is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from learner import Learner

from w2v_abx.config import changed
from w2v_abx.errors import InputError
from w2v_abx.runs import HARMLESS, check_same
from w2v_abx.training.saving.files import check_checkpoint

CONFIG: dict[str, Any] = {
    "seed": 0,
    "trainer": {"max_epochs": 3, "precision": "32-true"},
    "data": {"num_workers": 0, "batch_size": 4, "mix": {}},
    "callbacks": {"checkpoints": {"keep": 2}},
    "baselines": ["mfcc"],
}


def test_what_has_changed() -> None:
    now = {**CONFIG, "data": {"batch_size": 8, "mix": {"speech": {"weight": 0.2}}, "num_workers": 0}, "resume": None}
    assert changed(CONFIG, now) == {
        "data.batch_size": (4, 8),
        "data.mix": ({}, None),
        "data.mix.speech.weight": (None, 0.2),
    }
    assert changed(CONFIG, CONFIG) == {}


def test_harmless_changes(tmp_path: Path) -> None:
    now = {
        **CONFIG,
        "trainer": {"max_epochs": 5, "precision": "32-true"},
        "data": {"num_workers": 2, "batch_size": 4, "mix": {}},
        "callbacks": {"checkpoints": {"keep": 9}},
        "thermal": {"_target_": "another"},
        "resume": "auto",
    }
    check_same(tmp_path, CONFIG, now)
    measured = {"abx": {"device": "cpu", "batch_seconds": 60}, "features": {"keep": False}}
    elsewhere = {"abx": {"device": "cuda", "batch_seconds": 600}, "features": {"keep": True}}
    check_same(tmp_path, CONFIG | measured, CONFIG | elsewhere)
    assert "data" not in HARMLESS


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"trainer": {"max_epochs": 3, "precision": "16-mixed"}}, "trainer.precision was '32-true' and is '16-mixed'"),
        ({"callbacks": {"checkpoints": {"keep": 2}, "ema": {"decay": 0.9}}}, "callbacks.ema.decay was None and is 0.9"),
        ({"baselines": []}, r"baselines was \['mfcc'\] and is \[\]"),
        ({"seed": 1, "data": {}}, "data.batch_size was 4 and is None; .*seed was 0 and is 1"),
    ],
)
def test_another_run_is_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told) as caught:
        check_same(tmp_path, CONFIG, CONFIG | change)
    assert "\n" not in str(caught.value)
    assert "hydra.run.dir" in str(caught.value)


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    learner = Learner()
    training = {"loops": {}, "optimizer_states": [], "lr_schedulers": [], "pytorch-lightning_version": "2"}
    torch.save({"state_dict": learner.state_dict(), **training}, tmp_path / "a.ckpt")
    check_checkpoint(tmp_path / "a.ckpt", learner)
    weights = {**learner.state_dict(), "layer.weight": torch.zeros(1, 9)}
    torch.save({"state_dict": weights, **training}, tmp_path / "b.ckpt")
    with pytest.raises(InputError, match=r"layer.weight has the shape \(1, 9\) there and \(1, 8\) here"):
        check_checkpoint(tmp_path / "b.ckpt", learner)
    torch.save({"state_dict": learner.state_dict(), "loops": {}}, tmp_path / "w.ckpt")
    with pytest.raises(InputError, match=r"weights and not the training that they came of \(no optimizer_states"):
        check_checkpoint(tmp_path / "w.ckpt", learner)
    torch.save({"other": 1}, tmp_path / "c.ckpt")
    with pytest.raises(InputError, match="is not a whole checkpoint"):
        check_checkpoint(tmp_path / "c.ckpt", learner)
    with pytest.raises(InputError, match="is not there"):
        check_checkpoint(tmp_path / "d.ckpt", learner)
