"""Batches: every clip once, the same order for the same seed, and on from where a checkpoint was written."""

import io
import json
import multiprocessing
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import soundfile as sf
import torch
from batches import Learner
from lightning.pytorch.callbacks import ModelCheckpoint
from loopback import Loopback

from w2v_abx import audio
from w2v_abx.clips import Clip
from w2v_abx.data import Batch, ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.items.frames import FrameClock
from w2v_abx.shards import prepare, read_shard

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

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> torch.Tensor:
        return torch.tensor([labels["index"], min(on for on, _, _ in labels["phones"])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    (data / "raw").mkdir()
    prepare(Corpus(data / "raw"), data / "shards", clips_per_shard=5)
    return data / "shards"


def keys(loader: Any) -> list[list[str]]:
    return [batch.keys for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_holds_its_clips_padded_with_zeros(folder: Path, workers: int) -> None:
    data = ShardDataModule(folder, batch_size=4, num_workers=workers)
    data.ask({"index": Index()})
    batches = list(data.val_dataloader())
    assert sorted(key for batch in batches for key in batch.keys) == [f"{i:02d}" for i in range(CLIPS, CLIPS + 5)]
    for batch in batches:
        size = len(batch)
        assert batch.waveforms.dtype == torch.float32
        assert batch.lengths.dtype == torch.int64
        assert batch.waveforms.shape == (size, int(batch.lengths.max()))
        assert batch.targets["index"].values[:, 0].tolist() == [int(key) for key in batch.keys]
        for key, waveform, length in zip(batch.keys, batch.waveforms, batch.lengths, strict=True):
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
            assert set(batch.lengths.tolist()) == {640}
            for key, crop in zip(batch.keys, batch.waveforms.numpy(), strict=True):
                whole = audio.load(folder.parent / "raw" / f"{key}.wav")
                windows = np.lib.stride_tricks.sliding_window_view(whole, 640)
                crops[epoch, key] = int(np.flatnonzero((windows == crop).all(1))[0])
    assert sum(crops[0, f"{i:02d}"] != crops[1, f"{i:02d}"] for i in range(CLIPS)) > CLIPS / 2
    for batch in data.val_dataloader():
        for key, crop in zip(batch.keys, batch.waveforms.numpy(), strict=True):
            whole = audio.load(folder.parent / "raw" / f"{key}.wav")
            start = (len(whole) - 1600) // 2
            assert np.array_equal(crop, whole[start : start + 1600])


def test_times_are_counted_from_the_crop(folder: Path) -> None:
    class Phones:
        def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> torch.Tensor:
            last = labels["phones"][-1]
            assert last[2] == "c"  # "a" and "b" end before the middle of every held-out clip
            assert len(labels["phones"]) == 1
            return torch.tensor(last[:2])

    data = ShardDataModule(folder, batch_size=4, eval_crop_seconds=0.05)
    data.ask({"phones": Phones()})
    for batch in data.val_dataloader():
        assert torch.allclose(batch.targets["phones"].values, torch.tensor([0.0, 0.05]))


def test_max_clips_are_the_same_ones_each_epoch(folder: Path) -> None:
    loader = ShardDataModule(folder, batch_size=4, max_clips=7).train_dataloader()
    first = sorted(key for batch in keys(loader) for key in batch)
    loader.epoch = 1
    assert first == sorted(key for batch in keys(loader) for key in batch)
    assert len(set(first)) == 7


class Validated(Learner):
    def validation_step(self, batch: Batch, index: int) -> None:
        self.log("valid", batch.waveforms.std(), batch_size=len(batch))


def fit(
    folder: Path,
    out: Path,
    resume: Path | None = None,
    workers: int = 0,
    trainer: dict[str, Any] | None = None,
    **settings: Any,
) -> Validated:
    model = Validated()
    fitter = lightning.Trainer(
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
        **(trainer or {}),
    )
    options = {"batch_size": 4, "crop_seconds": 0.05, "num_workers": workers} | settings
    data = ShardDataModule(folder, **options)
    fitter.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
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


@pytest.mark.parametrize("name", ["step=6", "trained-epoch=0", "validated-epoch=1"])
def test_other_settings_from_the_next_epoch_on(folder: Path, tmp_path: Path, name: str) -> None:
    fit(folder, tmp_path / "a")
    whole = fit(folder, tmp_path / "b", tmp_path / "a" / f"{name}.ckpt", batch_size=2)
    first = 2 if name.startswith("validated") else 1
    assert [epoch for epoch, _, _ in whole.seen] == [e for e in range(first, 3) for _ in range(12)]
    for done in (4, 12):
        if done < len(whole.seen):
            step = 6 * first + done
            resumed = fit(folder, tmp_path / "c", tmp_path / "b" / f"step={step}.ckpt", batch_size=2)
            assert resumed.seen == whole.seen[done:]


def test_epochs_cut_short_are_resumed(folder: Path, tmp_path: Path) -> None:
    short = {"limit_train_batches": 4}
    whole = fit(folder, tmp_path / "whole", trainer=short)
    assert len(whole.seen) == 12
    for step in (3, 4, 7):
        resumed = fit(folder, tmp_path / "more", tmp_path / "whole" / f"step={step}.ckpt", trainer=short)
        assert resumed.seen == whole.seen[step:]


def test_without_a_trainer_what_was_given_out_counts(folder: Path) -> None:
    loader = ShardDataModule(folder, batch_size=4).train_dataloader()
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    state = loader.state_dict()  # type: ignore[attr-defined]
    assert (state["epoch"], state["batches"]) == (0, 2)
    rest = [batch.keys for batch in batches]
    again = ShardDataModule(folder, batch_size=4).train_dataloader()
    again.load_state_dict(state)  # type: ignore[attr-defined]
    assert keys(again) == rest
    state = loader.state_dict()  # type: ignore[attr-defined]
    assert (state["epoch"], state["batches"]) == (1, 0)


def test_a_folder_that_was_prepared_anew_is_not_gone_on_with(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    fit(tmp_path / "folder", tmp_path / "out")
    path = tmp_path / "folder" / "manifest.json"
    content = json.loads(path.read_text())
    for change in ("listing", "content"):
        other = json.loads(json.dumps(content))
        if change == "listing":
            other["listing"] = "another"
        else:
            train = next(shard for shard in other["shards"] if shard["split"] == "train")
            train["sha256"] = "0" * 64
        path.write_text(json.dumps(other))
        with pytest.raises(InputError, match=f"the checkpoint stopped inside an epoch read with {change}="):
            fit(tmp_path / "folder", tmp_path / "out", tmp_path / "out" / "step=5.ckpt")
        fit(tmp_path / "folder", tmp_path / "more", tmp_path / "out" / "step=6.ckpt")


def test_passing_over_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = ShardDataModule(folder, batch_size=4).train_dataloader()
    whole = keys(loader)
    decoded = []
    decode = audio.decode

    def watched(*arguments: Any) -> np.ndarray:
        decoded.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr("w2v_abx.shards.reading.decode", watched)
    loader.batches = 4
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
        ({"batch_size": 0}, "data.batch_size=0 must be a whole number from 1"),
        (
            {"crop_seconds": 0.01},
            "data.crop_seconds=0.01 must be a number of seconds at least 0.025, or null for whole clips",
        ),
        ({"eval_crop_seconds": float("nan")}, "data.eval_crop_seconds=nan must be"),
        ({"num_workers": -1}, "data.num_workers=-1 must be a whole number from 0"),
        ({"max_clips": 0}, "data.max_clips=0 must be a whole number from 1, or null"),
        ({"batch_size": 2.5}, "data.batch_size=2.5 must be a whole number"),
        ({"crop_seconds": "4"}, "data.crop_seconds='4' must be a number of seconds"),
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


def change_member(path: Path, key: str, samples: str) -> None:
    """Another length in a clip's description, of as many bytes."""
    data = path.read_bytes()
    place = data.index(b'"samples"', data.index(f"{key}.json".encode()))
    end = data.index(b"}", place)
    new = f'"samples":{samples}'.encode()
    assert len(new) <= end - place
    path.write_bytes(data[:place] + new + b" " * (end - place - len(new)) + data[end:])


@pytest.mark.parametrize("samples", ["9999", "0", "-1", "700", "1.5", "9e9"])
def test_a_length_that_is_not_the_indexs_is_refused(folder: Path, tmp_path: Path, samples: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    data = ShardDataModule(tmp_path / "copy", batch_size=4)
    shard = tmp_path / "copy" / data.manifest.of("train")[0].name
    key = next(iter(read_shard(shard))).key
    change_member(shard, key, samples)
    with pytest.raises(InputError, match=rf"{shard.name}: {key}(\.json is not| has {samples} samples where)"):
        list(data.train_dataloader())


@pytest.mark.parametrize("max_clips", [None, 1])
def test_nothing_hides_behind_the_last_clip(folder: Path, tmp_path: Path, max_clips: int | None) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "manifest.json"
    content = json.loads(path.read_text())
    for shard in content["shards"]:
        file = tmp_path / "copy" / shard["name"]
        with tarfile.open(file, "a") as tar:
            member = tarfile.TarInfo("../bomb.pkl")
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        shard["bytes"] = file.stat().st_size
    path.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"train-00000\d\.tar is damaged, or holds more than its index says after its last clip"
    ):
        list(ShardDataModule(tmp_path / "copy", max_clips=max_clips).train_dataloader())
    with Loopback(tmp_path / "copy") as server, pytest.raises(InputError, match="or holds more than its index says"):
        list(ShardDataModule(server.base).train_dataloader())


def test_labels_with_times_cannot_be_balanced(folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.balance=phones: no clip carries it as a whole"):
        ShardDataModule(folder, balance="phones").train_dataloader()


def test_fewer_clips_than_processes(folder: Path) -> None:
    data = ShardDataModule(folder, batch_size=8)
    data.trainer = SimpleNamespace(global_rank=0, world_size=8)  # type: ignore[assignment]
    with pytest.raises(InputError, match="the split 'valid' of .* has 5 clips or groups for 8 processes"):
        data.val_dataloader()


def test_a_forked_process_is_told(folder: Path) -> None:
    def read(answers: Any) -> None:
        try:
            ShardDataModule(folder).train_dataloader()
        except InputError as error:
            answers.put(str(error))

    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=read, args=(answers,))
    process.start()
    assert "in a process that was forked: choose a strategy" in answers.get(timeout=60)
    process.join()


def test_a_clip_of_weeks_is_no_traceback(folder: Path) -> None:
    """A few hundred kilobytes of FLAC may hold hours of silence, and an index may promise more."""
    dataset = ShardDataModule(folder, batch_size=4).train_dataloader().dataset
    (first, *_), *_ = dataset.encoded(0, 0)
    with pytest.raises(InputError, match=r"1 clips of up to .* s do not fit into memory: set data\.crop_seconds"):
        dataset.decoded([first._replace(length=2**50)])


def test_labels_are_read_without_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(Corpus(tmp_path), tmp_path / "shards")
    monkeypatch.setattr(audio, "decode", lambda *_: pytest.fail("audio was decoded"))
    data = ShardDataModule(tmp_path / "shards", max_clips=20)
    clips = {clip.key: clip for clip in data.labels()}
    assert len(clips) == 20
    for key, clip in clips.items():
        assert (clip.corpus, clip.samples) == ("noise", 800 + 100 * int(key))
        assert clip.labels["phones"][0] == [0.0, 0.02, "a"]
    assert {clip.key for clip in data.labels("valid")} == {"23", "24", "25", "26", "27"}
    with pytest.raises(InputError, match="test"):
        list(data.labels("test"))
