"""A frozen encoder runs once over each clip, and nothing else changes."""

import functools
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from probing_ranks import DROPOUT, HEADS, probe_in_ranks, run
from ranks import run_ranks
from small import ARCHITECTURE

from w2v_abx.data import ShardDataModule
from w2v_abx.data.noise import NoiseSetting
from w2v_abx.errors import InputError
from w2v_abx.features.cache import FeatureCache
from w2v_abx.features.store import FeatureStore
from w2v_abx.features.writing import StoreWriter
from w2v_abx.heads.masked_prediction import MaskedPrediction
from w2v_abx.models.encoder import Encoder
from w2v_abx.shards import Sample
from w2v_abx.training.saving import ExactResume
from w2v_abx.training.specaugment import SpecAugment

CROPPED = {name: head for name, head in HEADS.items() if name != "symbols"}  # whose clips may be cut


def module(shards: Path, **settings: Any) -> ShardDataModule:
    return ShardDataModule(shards, batch_size=8, **settings)


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the clips that are decoded and the passes of the encoder from here on."""
    counts = {"decoded": 0, "passes": 0}

    def count(what: str, work: Any) -> Any:
        @functools.wraps(work)
        def counting(*arguments: Any, **options: Any) -> Any:
            counts[what] += 1
            return work(*arguments, **options)

        return counting

    monkeypatch.setattr(Sample, "decode", count("decoded", Sample.decode))
    monkeypatch.setattr(Encoder, "forward", count("passes", Encoder.forward))
    return counts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_workers": 2, "balance": "labels"},
        {"crop_seconds": 0.35, "eval_crop_seconds": 0.15},
        {"like_length": 2},
    ],
)
def test_the_run_is_the_one_that_computes_them_in_every_step(
    settings: dict[str, Any], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = CROPPED if "crop_seconds" in settings else HEADS
    computed = run(module(shards, **settings), 0, tmp_path, heads=heads)
    counts = counted(monkeypatch)
    stored = run(module(shards, **settings), 1, tmp_path, heads=heads)
    assert counts["decoded"] == 25
    assert 0 < counts["passes"] <= 25
    assert len(stored.rows) == len(computed.rows)
    for row, expected in zip(stored.rows, computed.rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)
    weights = [dict(each.module.named_parameters()) for each in (stored, computed)]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-5)


def test_another_run_extracts_nothing(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(module(shards), 1, tmp_path)
    counts = counted(monkeypatch)
    assert run(module(shards), 1, tmp_path).rows == first.rows
    assert counts == {"decoded": 0, "passes": 0}


def test_a_run_that_is_killed_goes_on_to_the_bit(shards: Path, tmp_path: Path) -> None:
    def fit(resume: Path | None = None) -> Any:
        saving = ModelCheckpoint(tmp_path / "saved", filename="{step}", every_n_train_steps=1, save_top_k=-1)
        trainer = {"callbacks": [ExactResume(), saving], "enable_checkpointing": True}
        return run(module(shards), 1, tmp_path, resume, trainer)

    whole = fit()
    for step in (1, 3, 4):
        for store in (tmp_path / "features").iterdir() if step == 4 else ():
            shutil.rmtree(store, ignore_errors=True)  # and with it what the first process had computed
        resumed = fit(tmp_path / "saved" / f"step={step}.ckpt")
        assert [row["train/loss"] for row in resumed.rows] == [row["train/loss"] for row in whole.rows[step:]]
        assert all(map(torch.equal, resumed.module.parameters(), whole.module.parameters()))


def test_an_extraction_that_is_killed_goes_on_to_the_bit(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("w2v_abx.features.frozen.BATCH_SECONDS", 1.0)
    add, left = StoreWriter.add, iter(range(3))

    def killed(writer: StoreWriter, keys: Any, hidden: Any, lengths: Any) -> None:
        if next(left, None) is None:
            raise SystemExit
        add(writer, keys[:2], [states[:2] for states in hidden], lengths[:2])  # what of a batch was on the disk

    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "add", killed)
        with pytest.raises(SystemExit):
            run(module(shards), 1, tmp_path / "killed")
    assert [path for path in (tmp_path / "killed" / "features").iterdir() if path.name.endswith(".partial")]
    stores = []
    for name in ("killed", "whole"):
        run(module(shards), 1, tmp_path / name)
        stores.append({path.name: FeatureStore(path) for path in (tmp_path / name / "features").iterdir()})
    assert stores[0].keys() == stores[1].keys()
    for name, store in stores[0].items():
        assert sorted(store.keys) == sorted(stores[1][name].keys)
        for layer in store.layers:
            assert all(torch.equal(store.clip(layer, key), stores[1][name].clip(layer, key)) for key in store.keys)


REASONS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "crops": ({"crop_seconds": 0.2}, {"heads": CROPPED}, r"data.crop_seconds cuts \d+ training clips"),
    "masks": ({}, {"masking": SpecAugment(mask_feature_length=4)}, "objective.masking hides"),
    "own input": (
        {},
        {"heads": {**HEADS, "clusters": MaskedPrediction}},
        "objective.heads.clusters makes its own input",
    ),
    "size": ({}, {"gigabytes": 1e-5}, r"their features take 0\.0 GB, and features.gigabytes=1e-05"),
}


@pytest.mark.parametrize("name", REASONS)
def test_where_they_cannot_be_stored_one_line_says_why(
    name: str, shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings, options, reason = REASONS[name]
    data = module(shards, **settings)
    with caplog.at_level(logging.INFO, "w2v_abx"):
        run(data, **{"gigabytes": 1, "folder": tmp_path, "trainer": {"max_epochs": 1}, **options})
    (line,) = [record.getMessage() for record in caplog.records if "frozen encoder" in record.getMessage()]
    assert re.fullmatch(f"The frozen encoder runs in every step: {reason}.*", line)
    assert not data.stored


def test_noise_in_training_is_computed_and_noise_in_validation_is_stored(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = {splits: module(shards, noise=NoiseSetting(str(shards), 0.0, [splits])) for splits in ("train", "valid")}
    with caplog.at_level(logging.INFO, "w2v_abx"):
        run(data["train"], 1, tmp_path)
    assert "noise.splits has train" in caplog.text
    assert not data["train"].stored
    plain, noisy = (run(each, 1, tmp_path).rows[-1] for each in (module(shards), data["valid"]))
    assert set(data["valid"].stored) == {"train", "valid"}
    assert plain["train/loss"] == noisy["train/loss"]
    assert plain["valid/loss"] != noisy["valid/loss"]
    data["valid"].stored.clear()
    assert noisy == pytest.approx(run(data["valid"], 0, tmp_path).rows[-1], rel=1e-5, abs=1e-5)


def test_an_encoder_that_trains_is_computed(shards: Path, tmp_path: Path) -> None:
    data = module(shards)
    run(data, 1, tmp_path, trainer={"max_epochs": 1}, train="top-1")
    assert not data.stored
    assert not (tmp_path / "features").exists()


def test_a_frozen_encoder_has_no_dropout() -> None:
    encoder = Encoder.random({**ARCHITECTURE, **DROPOUT, "num_hidden_layers": 3}, train="head").train()
    waveforms, lengths = torch.randn(2, 4000), torch.tensor([4000, 3000])
    first, second = (encoder(waveforms, lengths).layers for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_what_is_stored_stays_within_its_limit(shards: Path, tmp_path: Path) -> None:
    def size() -> int:
        return sum(path.stat().st_size for path in (tmp_path / "features").rglob("*.npy"))

    def fit(gigabytes: float, seconds: float) -> None:
        data = module(shards, eval_crop_seconds=seconds)
        run(data, gigabytes, tmp_path, trainer={"max_epochs": 1}, heads=CROPPED)
        assert data.stored

    fit(1.0, 0.1)
    one = size()
    for seconds in (0.11, 0.12, 0.13):
        fit(1.0, seconds)
    four = size()
    assert four > one
    fit(four / 1e9, 0.14)
    assert size() <= four


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"features.gigabytes=-1 must be a number at least 0"):
        FeatureCache(tmp_path, -1)
    with pytest.raises(InputError, match="features.dtype"):
        FeatureCache(tmp_path, 1, "float64")


def test_two_ranks_read_what_one_stores(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    run_ranks(probe_in_ranks, 2, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first["1"], first["0"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
