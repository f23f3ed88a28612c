"""The choices of fine-tuning, as a user makes them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback
from noises import noises
from omegaconf import OmegaConf
from small import ARCHITECTURE, quiet_trainer
from transformers import Wav2Vec2Model

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.config import CONF
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.lora import Lora
from w2v_abx.training.callbacks import L2SP, Ema, HeadFirst
from w2v_abx.training.optimization import Optimization
from w2v_abx.training.schedules import Schedule
from w2v_abx.training.specaugment import SpecAugment


def configured(*overrides: str) -> dict[str, object]:
    """What the model, optimiser, masking and callbacks of a configuration are."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*overrides])
    chosen = {
        name: callback
        for name, callback in config.callbacks.items()
        if str(callback._target_).startswith("w2v_abx.training.callbacks")
        and name != "monitor"  # it needs a run's folder
    }
    OmegaConf.resolve(config.optimizer)
    return {
        "model": config.model,
        "lora": instantiate(config.model.lora, seed=config.seed),
        "optimizer": instantiate(config.optimizer),
        "masking": instantiate(config.objective.masking) if "masking" in config.objective else None,
        "callbacks": {name: instantiate(callback) for name, callback in chosen.items()},
    }


def test_by_default_nothing_is_chosen() -> None:
    found = configured()
    optimization = found["optimizer"]
    assert isinstance(optimization, Optimization)
    assert optimization.schedule == Schedule()
    assert (optimization.warmup_share, optimization.layer_decay, optimization.head_factor) == (0.1, 1.0, 1.0)
    assert (found["masking"], found["callbacks"]) == (None, {})
    assert found["lora"] == Lora()


def test_all_of_it_can_be() -> None:
    found = configured(
        "model=wav2vec2_base",
        "model.train=lora",
        "model.lora.rank=4",
        "model.lora.targets=[q_proj,output_dense]",
        "optimizer=tri_stage",
        "optimizer.layer_decay=0.8",
        "objective/masking=specaugment",
        "objective.masking.mask_time_prob=0.3",
        "callbacks=[monitor,ema,l2sp,head_first]",
        "callbacks.l2sp.alpha=0.1",
        "callbacks.head_first.steps=5",
        "callbacks.monitor.average=true",
        "seed=3",
    )
    assert found["lora"] == Lora(rank=4, targets=["q_proj", "output_dense"], seed=3)
    optimization, masking = found["optimizer"], found["masking"]
    assert isinstance(optimization, Optimization)
    assert optimization.schedule == Schedule("exponential", 0.4, 0.01, 0.05)
    assert optimization.layer_decay == 0.8
    assert masking == SpecAugment(mask_time_prob=0.3, seed=3)
    callbacks = found["callbacks"]
    assert isinstance(callbacks, dict)
    assert {name: type(callback) for name, callback in callbacks.items()} == {
        "ema": Ema, "l2sp": L2SP, "head_first": HeadFirst,
    }  # fmt: skip
    assert callbacks["l2sp"].alpha == 0.1
    assert all(isinstance(callback, Callback) for callback in callbacks.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", Schedule()),
        ("cosine", Schedule("cosine")),
        ("constant", Schedule(final_scale=1.0)),
        ("tri_stage", Schedule("exponential", 0.4, 0.01, 0.05)),
    ],
)
def test_every_schedule_has_its_file(name: str, expected: Schedule) -> None:
    optimization = configured(f"optimizer/schedule={name}")["optimizer"]
    assert isinstance(optimization, Optimization)
    assert optimization.schedule == expected


def test_a_run_with_all_of_it(run: Callable[..., str], tmp_path: Path) -> None:
    speech = noises(tmp_path / "speech")
    speech.items.write(tmp_path / "test.item")
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    run(
        "train",
        "corpus.n_train=12",
        "corpus.n_valid=4",
        "corpus.seconds=1.0",
        "corpus.duration=[0.3,0.8]",
        "corpus.categories=[rain,bell]",
        "corpus.max_events=2",
        "abx=item_file",
        f"abx.items={tmp_path / 'test.item'}",
        f"abx.root={tmp_path / 'speech'}",
        "model=local",
        f"model.source={tmp_path / 'model'}",
        "model.train=lora",
        "optimizer=tri_stage",
        "optimizer.layer_decay=0.8",
        "optimizer.optimizer.lr=0.01",
        "objective/masking=specaugment",
        "objective.masking.mask_feature_length=4",
        "callbacks=[ema,l2sp]",
        "thermal=off",
        "baselines=[]",
        "logger=csv",
        "trainer.max_epochs=2",
        "data.batch_size=4",
        "hydra.run.dir=here",
    )
    folder = tmp_path / "here"
    assert json.loads((folder / "run.json").read_text())["state"] == "finished"
    with (folder / "metrics.csv").open() as file:
        pulled = [float(row["train/l2sp"]) for row in csv.DictReader(file) if row.get("train/l2sp")]
    assert len(pulled) == 6
    assert pulled[-1] > 0
    _, info = Wav2Vec2Model.from_pretrained(folder / "encoder", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    # What is saved is what was measured: the averaged weights, merged.
    encoder = Encoder.load(folder / "encoder")
    saved = evaluate("saved", encoder, speech, AbxSetting(), quiet_trainer(tmp_path)).scores
    measured = json.loads((folder / "abx" / "after" / "summary.json").read_text())["scores"]
    assert len(measured) == len(saved)
    for row in measured:
        delta = saved[row["layer"], row["condition"]].delta
        assert row["delta"]["mean"] == pytest.approx(delta.mean, rel=1e-4)
        assert row["delta"]["std"] == pytest.approx(delta.std, rel=1e-4)
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(last["callbacks"]["Ema"]) == {"steps", "average"}
