"""Batches: every clip once, the same order for the same seed, and on from where a checkpoint was written."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import soundfile as sf
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from w2v_abx import audio
from w2v_abx.corpora.clip import Clip
from w2v_abx.data import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.shards import prepare

CLIPS = 23


class Corpus:
    name = "noise"

    def __init__(self, root: Path, valid: int = 5) -> None:
        self.root, self.valid = root, valid

    def clips(self) -> list[Clip]:
        clips = []
        for i in range(CLIPS + self.valid):
            path = self.root / f"{i:02d}.wav"
            generator = np.random.default_rng(i)
            sf.write(path, 0.1 * generator.standard_normal(800 + 100 * i), 16000)
            phones = [[0.0, 0.02, "a"], [0.02, 0.04, "b"], [0.04, 0.05 + i / 160, "c"]]
            labels = {"labels": [f"kind {i % 3}"], "index": i, "phones": phones}
            clips.append(Clip(f"{i:02d}", path, split="train" if i < CLIPS else "valid", labels=labels))
        return clips


class Index:
    """A target that tells which clip it was, and which phones its crop holds."""

    def encode(self, labels: Mapping[str, Any]) -> torch.Tensor:
        return torch.tensor([labels["index"], min(on for on, _, _ in labels["phones"])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    (data / "raw").mkdir()
    prepare(Corpus(data / "raw"), data / "shards", clips_per_shard=5)
    return data / "shards"


def keys(loader: Any) -> list[list[str]]:
    return [batch["keys"] for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_holds_its_clips_padded_with_zeros(folder: Path, workers: int) -> None:
    data = ShardDataModule(folder, batch_size=4, num_workers=workers, targets={"index": Index()})
    batches = list(data.val_dataloader())
    assert sorted(key for batch in batches for key in batch["keys"]) == [f"{i:02d}" for i in range(CLIPS, CLIPS + 5)]
    for batch in batches:
        size = len(batch["keys"])
        assert batch["waveforms"].dtype == torch.float32
        assert batch["lengths"].dtype == torch.int64
        assert batch["waveforms"].shape == (size, int(batch["lengths"].max()))
        assert batch["targets"]["index"][:, 0].tolist() == [int(key) for key in batch["keys"]]
        for key, waveform, length in zip(batch["keys"], batch["waveforms"], batch["lengths"], strict=True):
            samples = audio.load(folder.parent / "raw" / f"{key}.wav")
            assert np.array_equal(waveform[:length].numpy(), samples)
            assert not waveform[length:].any()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_epoch_has_every_clip_once_in_a_repeatable_order(folder: Path, workers: int) -> None:
    def epoch(seed: int) -> list[list[str]]:
        return keys(ShardDataModule(folder, batch_size=4, num_workers=workers, seed=seed).train_dataloader())

    first = epoch(seed=1)
    assert first == epoch(seed=1)
    assert first != epoch(seed=2)
    assert sorted(key for batch in first for key in batch) == [f"{i:02d}" for i in range(CLIPS)]
    assert sorted(map(len, first)) == [3, 4, 4, 4, 4, 4]


def test_random_crops_in_training_and_the_middle_elsewhere(folder: Path) -> None:
    data = ShardDataModule(folder, batch_size=4, crop_seconds=0.04, eval_crop_seconds=0.1, seed=3)
    crops = {}
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.epoch = epoch
        for batch in loader:
            assert set(batch["lengths"].tolist()) == {640}
            for key, crop in zip(batch["keys"], batch["waveforms"].numpy(), strict=True):
                whole = audio.load(folder.parent / "raw" / f"{key}.wav")
                windows = np.lib.stride_tricks.sliding_window_view(whole, 640)
                crops[epoch, key] = int(np.flatnonzero((windows == crop).all(1))[0])
    assert sum(crops[0, f"{i:02d}"] != crops[1, f"{i:02d}"] for i in range(CLIPS)) > CLIPS / 2
    for batch in data.val_dataloader():
        for key, crop in zip(batch["keys"], batch["waveforms"].numpy(), strict=True):
            whole = audio.load(folder.parent / "raw" / f"{key}.wav")
            start = (len(whole) - 1600) // 2
            assert np.array_equal(crop, whole[start : start + 1600])


def test_times_are_counted_from_the_crop(folder: Path) -> None:
    class Phones:
        def encode(self, labels: Mapping[str, Any]) -> torch.Tensor:
            last = labels["phones"][-1]
            assert last[2] == "c"  # "a" and "b" end before the middle of every held-out clip
            assert len(labels["phones"]) == 1
            return torch.tensor(last[:2])

    data = ShardDataModule(folder, batch_size=4, eval_crop_seconds=0.05, targets={"phones": Phones()})
    for batch in data.val_dataloader():
        assert torch.allclose(batch["targets"]["phones"], torch.tensor([0.0, 0.05]))


def test_max_clips_are_the_same_ones_each_epoch(folder: Path) -> None:
    loader = ShardDataModule(folder, batch_size=4, max_clips=7).train_dataloader()
    first = sorted(key for batch in keys(loader) for key in batch)
    loader.epoch = 1  # type: ignore[attr-defined]
    assert first == sorted(key for batch in keys(loader) for key in batch)
    assert len(set(first)) == 7


class Learner(lightning.LightningModule):
    """One weight that remembers the order of what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[str], float]] = []

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch["keys"], float(batch["waveforms"].sum())))
        return (self.weight - batch["waveforms"].std()) ** 2

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        self.log("valid", batch["waveforms"].std(), batch_size=len(batch["keys"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def fit(folder: Path, out: Path, resume: Path | None = None, workers: int = 0, **settings: Any) -> Learner:
    model = Learner()
    trainer = lightning.Trainer(
        accelerator="cpu",
        default_root_dir=out,
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[
            ModelCheckpoint(out, filename="{step}", every_n_train_steps=1, save_top_k=-1),
            ModelCheckpoint(out, filename="trained-{epoch}", save_top_k=-1, save_on_train_epoch_end=True),
            ModelCheckpoint(out, filename="validated-{epoch}", every_n_epochs=2, save_on_train_epoch_end=False),
        ],
    )
    data = ShardDataModule(folder, batch_size=4, crop_seconds=0.05, num_workers=workers, **settings)
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
    return model


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_the_run_that_was_not_killed(folder: Path, tmp_path: Path, workers: int) -> None:
    whole = fit(folder, tmp_path / "whole", workers=workers)
    assert [epoch for epoch, _, _ in whole.seen] == [0] * 6 + [1] * 6 + [2] * 6
    assert whole.seen[0][1] != whole.seen[6][1]
    checkpoints = {f"step={step}": step for step in ((1, 5, 6, 9, 12) if workers == 0 else (9,))}
    for name, step in (checkpoints | {"trained-epoch=0": 6, "validated-epoch=1": 12}).items():
        resumed = fit(folder, tmp_path / "resumed", tmp_path / "whole" / f"{name}.ckpt", workers)
        assert resumed.seen == whole.seen[step:]
        assert torch.equal(resumed.weight, whole.weight)


def test_resuming_in_another_order_is_refused(folder: Path, tmp_path: Path) -> None:
    fit(folder, tmp_path)
    with pytest.raises(InputError, match="inside an epoch read with seed=0, which seed=1 would read in another order"):
        fit(folder, tmp_path, resume=tmp_path / "step=9.ckpt", seed=1)


def test_passing_over_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = ShardDataModule(folder, batch_size=4).train_dataloader()
    whole = keys(loader)
    decoded = []
    decode = audio.decode

    def watched(*arguments: Any) -> np.ndarray:
        decoded.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr("w2v_abx.shards.reading.decode", watched)
    loader.batches = 4  # type: ignore[attr-defined]
    assert keys(loader) == whole[4:]
    assert len(decoded) == 7


def test_what_is_wrong_with_a_folder_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no manifest\.json: run `w2v-abx prepare"):
        ShardDataModule(tmp_path / "nothing")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    data = ShardDataModule(broken, num_workers=1)
    with pytest.raises(InputError, match="holds no clip of the split 'test'"):
        data.test_dataloader()
    shard = broken / "train-000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"the shard .*train-000001\.tar has \d+ bytes where the manifest says"):
        data.train_dataloader()
    shard.write_bytes(b"\1" * len(whole))
    with pytest.raises(InputError, match=r"^the shard .*train-000001\.tar is damaged") as caught:
        list(data.train_dataloader())
    assert "\n" not in str(caught.value)
    shard.unlink()
    with pytest.raises(InputError, match=r"the shard .*train-000001\.tar is missing"):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "data.batch_size=0 must be 1 or more"),
        ({"crop_seconds": 0.01}, "data.crop_seconds=0.01 must be 0.025 or more"),
        ({"eval_crop_seconds": float("nan")}, "data.eval_crop_seconds=nan must be"),
        ({"num_workers": -1}, "data.num_workers=-1 must be 0 or more"),
        ({"max_clips": 0}, "data.max_clips=0 must be 1 or more"),
    ],
)
def test_settings_out_of_range(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ShardDataModule(folder, **settings)


def test_dropping_the_last_must_leave_something(folder: Path) -> None:
    assert len(ShardDataModule(folder, batch_size=4, drop_last=True).train_dataloader()) == 5
    with pytest.raises(InputError, match=r"data\.drop_last leaves nothing of the 23 clips"):
        ShardDataModule(folder, batch_size=24, drop_last=True).train_dataloader()


def test_categories_come_from_the_training_clips(folder: Path) -> None:
    assert ShardDataModule(folder).categories() == ["kind 0", "kind 1", "kind 2"]
    assert ShardDataModule(folder).categories("phones") == ["a", "b", "c"]
    with pytest.raises(InputError, match="carries the label 'speaker'"):
        ShardDataModule(folder).categories("speaker")
