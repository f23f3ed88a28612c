"""What another run has measured is reused where all of it is the same, and nowhere else."""

from dataclasses import replace
from pathlib import Path

import pytest
from noises import noises
from small import ARCHITECTURE, quiet_trainer

from w2v_abx import audio
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech
from w2v_abx.items.items import Items
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc
from w2v_abx.training.saving.measurements import measurement_key, reuse_measurement, store_measurement


def test_the_key_follows_all_that_scores_depend_on(tmp_path: Path) -> None:
    speech, trainer, setting = noises(tmp_path / "speech"), quiet_trainer(tmp_path), AbxSetting()
    encoder = Encoder.random(ARCHITECTURE)

    def key(extractor: Encoder | Mfcc = encoder, speech: Speech = speech, setting: AbxSetting = setting) -> str:
        return measurement_key(extractor, speech, setting, trainer) or ""

    first = key()
    assert key(Encoder.random(ARCHITECTURE), noises(tmp_path / "same")) == first
    fewer = Speech(Items(speech.items.frame[:-1]), speech.files)
    others = [
        key(Encoder.random(ARCHITECTURE, seed=1)),
        key(Mfcc()),
        key(speech=fewer),
        key(setting=replace(setting, distance="euclidean")),
        key(setting=replace(setting, seed=1)),
        key(setting=replace(setting, batch_seconds=7.0)),  # which moves the last bits
        measurement_key(encoder, speech, setting, quiet_trainer(tmp_path, precision="bf16-mixed")),
        measurement_key(encoder, speech, setting, trainer, {"temperature": 30.0}),
    ]
    path = next(iter(speech.files.values()))
    samples = audio.load(path)
    samples[0] += 0.1
    audio.save(path, samples)
    assert len({first, *others, key()}) == len(others) + 2


def test_what_a_class_of_somebody_else_gives_is_measured_anew(tmp_path: Path) -> None:
    class Own(Encoder):
        """What it makes of the same weights, nobody knows."""

    trainer = quiet_trainer(tmp_path)
    assert measurement_key(Own.random(ARCHITECTURE), noises(tmp_path / "speech"), AbxSetting(), trainer) is None


def test_scores_are_copied_whole_or_not_at_all(tmp_path: Path) -> None:
    stored, made = tmp_path / "stored", tmp_path / "run" / "abx" / "before" / "cells.parquet"
    assert reuse_measurement(stored, "k", tmp_path / "other", "before") is None
    made.parent.mkdir(parents=True)
    made.write_bytes(b"cells")
    store_measurement(stored, "k", tmp_path / "run", "before", {"heat": 1})
    made.write_bytes(b"later")
    store_measurement(stored, "k", tmp_path / "run", "before", {"heat": 2})
    assert reuse_measurement(stored, "k", tmp_path / "other", "before") == {"heat": 1}
    assert (tmp_path / "other" / "abx" / "before" / "cells.parquet").read_bytes() == b"cells"
    assert reuse_measurement(stored, "k", tmp_path / "other", "mfcc") is None
    (stored / "before" / "k" / "abx" / "before" / "cells.parquet").write_bytes(b"damaged")
    assert reuse_measurement(stored, "k", tmp_path / "third", "before") is None
    assert not (tmp_path / "third").exists()
    store_measurement(stored, "k", tmp_path / "run", "before", {})
    assert reuse_measurement(stored, "k", tmp_path / "third", "before") == {}


def test_a_folder_that_cannot_be_written_fails_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run" / "abx" / "before").mkdir(parents=True)
    (tmp_path / "stored").write_text("a file in the way")
    store_measurement(tmp_path / "stored", "k", tmp_path / "run", "before", {})
    assert "cannot be written" in caplog.text
    assert reuse_measurement(tmp_path / "stored", "k", tmp_path / "other", "before") is None
