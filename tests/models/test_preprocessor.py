"""What a checkpoint's preprocessor says, in the files of transformers 5 and of older ones."""

import json
import logging
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from tiny_ctc import save_ctc
from transformers import Wav2Vec2FeatureExtractor

from w2v_abx.alignment.ctc import CtcModel
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder

OLD, NEW = "preprocessor_config.json", "processor_config.json"
PLAIN = {"do_normalize": False, "sampling_rate": 16000, "feature_size": 1}
NORMALIZED = {**PLAIN, "do_normalize": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_ctc(tmp_path_factory.mktemp("checkpoint") / "model", list("ab"))
    (folder / OLD).unlink()
    return folder


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model, tmp_path / "model")


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "normalized"),
    [
        ({}, True),
        ({OLD: PLAIN}, False),
        ({NEW: {"feature_extractor": PLAIN, "processor_class": "Wav2Vec2Processor"}}, False),
        ({NEW: {"audio_processor": PLAIN}}, False),
        ({NEW: {"processor_class": "Wav2Vec2Processor"}, OLD: PLAIN}, False),
        ({NEW: {"feature_extractor": PLAIN}, OLD: NORMALIZED}, False),
        ({NEW: {"feature_extractor": NORMALIZED}, OLD: PLAIN}, True),
        ({NEW: {"feature_extractor": {"sampling_rate": 16000.0}}}, True),
    ],
)
def test_it_is_read_as_transformers_reads_it(
    folder: Path, files: dict[str, Any], normalized: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, files)
    with caplog.at_level(logging.WARNING):
        assert Encoder.load(folder).normalized == normalized
        assert CtcModel(folder).normalized == normalized
        assert Encoder.random(folder, seed=0).normalized == normalized
    if files:
        assert Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize == normalized
    both = NEW in files and OLD in files and "feature_extractor" in files[NEW]
    assert ("disagree" in caplog.text) == both


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({NEW: {"feature_extractor": {**PLAIN, "sampling_rate": 8000}}}, "8000 Hz .*16000 Hz model"),
        ({NEW: {"feature_extractor": {**PLAIN, "sampling_rate": 44100}}, OLD: PLAIN}, "44100 Hz"),
        ({OLD: {**PLAIN, "sampling_rate": 24000}}, "24000 Hz"),
        ({NEW: {"feature_extractor": {"sampling_rate": "16000"}}}, "sampling_rate='16000'"),
        ({NEW: {"feature_extractor": {"do_normalize": "no"}}}, "do_normalize='no'"),
        ({NEW: {"feature_extractor": [1]}}, "true or false"),
        ({NEW: [1]}, "one JSON object"),
    ],
)
def test_what_does_not_fit_is_refused_by_encoder_and_alignment(
    folder: Path, files: dict[str, Any], message: str
) -> None:
    write(folder, files)
    for load in (Encoder.load, CtcModel):
        with pytest.raises(InputError, match=message) as caught:
            load(folder)
        assert "processor_config.json" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_it_is_fetched_from_the_hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shutil.copytree(model, tmp_path / "hub"), {NEW: {"feature_extractor": PLAIN}})

    def download(source: str, *, revision: str | None, allow_patterns: Sequence[str]) -> str:
        target = tmp_path / source.replace("/", "--")
        target.mkdir(exist_ok=True)
        for file in (tmp_path / "hub").iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, target)
        return str(target)

    monkeypatch.setattr("w2v_abx.models.checkpoints.snapshot_download", download)
    assert not Encoder.load("some/encoder").normalized
    assert not Encoder.random("other/encoder", seed=0).normalized
    assert not CtcModel("some/aligner").normalized


def test_a_folder_that_is_written_over_says_what_was_written(folder: Path) -> None:
    write(folder, {NEW: {"feature_extractor": PLAIN}})
    encoder = Encoder.load(folder)
    encoder.normalized = True
    encoder.save(folder)
    assert Encoder.load(folder).normalized
    assert Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize
    assert json.loads((folder / OLD).read_text())["do_normalize"]  # where transformers 4 looks
