"""A training under supervised heads that goes on from a checkpoint inside an epoch equals the whole one to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from elastic_objectives import make, prepare
from lightning.pytorch.callbacks import ModelCheckpoint
from small import quiet_trainer

from w2v_abx.data import ShardDataModule
from w2v_abx.training.microbatch import MicroBatching
from w2v_abx.training.saving import ExactResume


@pytest.mark.parametrize("kind", ["frames", "clips"])
def test_from_the_middle(kind: str, tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    found: list[tuple[dict[str, Any], dict[str, Any], list[Any]]] = []
    for resume in (None, tmp_path / "step=4.ckpt"):  # of three in an epoch
        data = ShardDataModule(folder, batch_size=3, crop_seconds=0.5)
        module = make(kind, data, adam=True, microbatch=MicroBatching(clips=2)).train()
        saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4, save_top_k=-1)
        trainer = quiet_trainer(
            tmp_path, max_epochs=3, callbacks=[ExactResume(), saving], enable_checkpointing=True, log_every_n_steps=1
        )
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        assert trainer.global_step == 9
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        found.append((module.state_dict(), logged, [result.plain() for result in module.results["valid"].values()]))
    (whole, logged, results), (resumed, again, same) = found
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert again == logged
    assert same == results
