"""What cannot work is said in one line, before the first step."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
from omegaconf import OmegaConf
from small import ARCHITECTURE

from w2v_abx import commands
from w2v_abx.commands.checks import check_settings
from w2v_abx.distributed import Ranks
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.saving.files import OF_TRAINING
from w2v_abx.training.trainers import training_trainer

Command = Callable[..., str]
Wrong = Callable[..., str]


@pytest.fixture
def wrong(
    run: Command, capfd: pytest.CaptureFixture[str], pond: Path, spoken: tuple[Path, Path], tmp_path: Path
) -> Wrong:
    """What a training that fails says; nothing but its clips may have been made by then, unless ``prepared`` is false
    not even those."""
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    arguments = (
        "train", "--config-dir", str(pond), "corpus=pond", "abx=item_file", f"abx.items={spoken[0]}",
        f"abx.root={spoken[1]}", "model=local", "model.source=model", "data.batch_size=4", "trainer.max_epochs=1",
        "trainer.accelerator=cpu", "thermal=off", "logger=csv", "baselines=[]", "hydra.run.dir=out",
    )  # fmt: skip

    def wrong(*overrides: str, prepared: bool = True) -> str:
        with pytest.raises(SystemExit) as stopped:
            run(*arguments, *overrides)
        assert stopped.value.code == 2
        error = capfd.readouterr().err
        assert "Traceback" not in error
        assert prepared or not (tmp_path / "data").exists()
        out = tmp_path / "out"
        assert not [path for name in ("abx", "checkpoints", "encoder") for path in out.glob(f"{name}/**/*")]
        for file in (out / "run.json", out / "phases.json"):
            file.unlink(missing_ok=True)  # the next one begins anew
        return error.splitlines()[-1]

    return wrong


def test_what_the_machine_does_not_have(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("gpu", "cuda"):
        said = wrong(f"trainer.accelerator={name}")
        assert f"trainer.accelerator={name}" in said
        assert "this machine, with 0 GPUs, cannot do that" in said
    assert "trainer.precision=16-mixed: CPUs do not train in float16" in wrong("trainer.precision=16-mixed")
    assert "trainer.precision=31" in wrong("trainer.precision=31")
    assert "trainer.devices=0" in wrong("trainer.devices=0")
    assert "trainer.num_nodes=2: start the processes" in wrong("trainer.num_nodes=2")
    assert "trainer.strategy=ddp_spawn" in wrong("trainer.strategy=ddp_spawn", "trainer.devices=2")
    monkeypatch.setattr(commands, "current_process", lambda: Ranks(0, 3))
    assert "make 1 processes, and srun or torchrun has started 3" in wrong("trainer.devices=1")
    assert "a sweep starts in one process" in wrong("trainer.devices=3", "hydra.mode=MULTIRUN")
    monkeypatch.setattr(commands, "current_process", Ranks)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    said = wrong("trainer.accelerator=gpu", "trainer.devices=4")
    assert "trainer.devices=4" in said
    assert "with 1 GPUs" in said


def test_a_precision_that_the_gpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated=True: emulated)  # as on a card of 2018
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings = {"_target_": "lightning.Trainer", "accelerator": "gpu", "devices": 1, "strategy": "auto"}
    for precision in ("bf16-mixed", "bf16-true"):
        with pytest.raises(InputError, match="Tesla V100 does not compute in bfloat16; set trainer.precision=16-mixed"):
            training_trainer(OmegaConf.create(settings | {"precision": precision}), logger=False)


def test_batches_that_cannot_be_made(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "data.batch_size=5 is more than the 4 clips of an epoch" in wrong("data.batch_size=5")
    assert "data.batch_size=4 is more than the 2 clips" in wrong("data.max_clips=2")
    shutil.rmtree("data")
    wrongs = {
        "batch_size=-1": "a whole number from 1",
        "batch_size=null": "a whole",
        "crop_seconds=0": "a number of seconds at least 0.025",
    }
    for wish, wanted in wrongs.items():
        assert f"must be {wanted}" in wrong(f"data.{wish}", prepared=False)
    three = lightning.Trainer(accelerator="cpu", devices=3, logger=False)
    with pytest.raises(InputError, match="data.batch_size=4 is that of all processes .* a multiple of their number, 3"):
        check_settings(OmegaConf.create({"data": {"batch_size": 4, "batch_seconds": None}}), three)


def test_categories_that_no_clip_carries(wrong: Wrong) -> None:
    assert "'unicorn'" in wrong("corpus=soundscape", "corpus.categories=[rain,unicorn]")
    said = wrong("objective.heads.labels.label=emotion")
    assert "carries the label 'emotion'" in said
    assert "labels" in said  # which there is
    assert "~head@objective.heads.labels leaves the head 'labels' out" in said
    forgotten = wrong("objective=default", "+head@objective.heads.who=utterance")
    assert "objective.heads.who.label is missing; give objective.heads.who.label=…" in forgotten
    # Of the clips that are left, all carry frog, and none rain.
    assert "carries rain, of which the head 'labels' is to learn" in wrong("data.max_clips=1", "data.batch_size=1")


def test_shards_that_end_early(wrong: Wrong, tmp_path: Path) -> None:
    wrong("data.batch_size=5")  # prepares the clips; and those that it made itself, it would make again
    copied = shutil.copytree(tmp_path / "data" / "shards" / "pond", tmp_path / "copied")
    (shard,) = copied.glob("train-*.tar")
    os.truncate(shard, shard.stat().st_size - 512)
    said = wrong("data.folder=copied")
    assert shard.name in said
    assert "bytes where the manifest says" in said


def test_metrics_that_are_not_logged(wrong: Wrong) -> None:
    monitor = "callbacks.checkpoints.monitor"
    said = wrong(f"{monitor}=valid/labels_map", "+trainer.limit_val_batches=0", prepared=False)
    assert f"{monitor}=valid/labels_map is logged by a validation, and trainer.limit_val_batches=0 leaves none" in said
    said = wrong(f"{monitor}=valid/label_map")
    assert f"{monitor}='valid/label_map' must be one of valid/loss, valid/labels_loss, valid/labels_map" in said
    for metric in ("valid/loss", "valid/labels_loss"):
        said = wrong(f"{monitor}={metric}")
        assert f"{monitor}={metric} is the better the lower: set callbacks.checkpoints.mode=min" in said
    said = wrong(f"{monitor}=valid/loss", "objective=pretrain", "corpus.name=undivided", "corpus.valid=null")
    assert f"{monitor}=valid/loss is logged by a validation, and the corpus has no split 'valid'" in said


def test_checkpoints_of_something_else(wrong: Wrong, tmp_path: Path) -> None:
    assert "resume=none.ckpt is not there" in wrong("resume=none.ckpt", prepared=False)
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    said = wrong("resume=weights.ckpt", prepared=False)
    assert "resume=weights.ckpt holds weights and not the training that they came of" in said
    (tmp_path / "step-00000001.ckpt").write_bytes(b"half")
    assert "step-00000001.ckpt is not a whole checkpoint" in wrong("resume=step-00000001.ckpt", prepared=False)
    training = dict.fromkeys(OF_TRAINING)

    def checkpoint(width: int, categories: int) -> str:
        encoder = Encoder.random({**ARCHITECTURE, "hidden_size": width}).state_dict()
        head = {"weight": torch.zeros(categories, width), "bias": torch.zeros(categories)}
        weights = {f"encoder.{name}": value for name, value in encoder.items()}
        weights |= {f"heads.labels.linear.{name}": value for name, value in head.items()}
        torch.save({"state_dict": weights, **training}, tmp_path / f"{width}-{categories}.ckpt")
        return f"resume={width}-{categories}.ckpt"

    assert "heads.labels.linear.bias has the shape (3,) there and (2,) here" in wrong(checkpoint(16, 3))
    assert "is a checkpoint of another model, objective or corpus: encoder." in wrong(checkpoint(32, 2))
