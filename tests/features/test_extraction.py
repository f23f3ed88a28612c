"""Features that are extracted to disk: as in memory, gone on with after a kill, and not extracted twice."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from noises import noises
from small import ARCHITECTURE, extract_all, quiet_trainer

from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech
from w2v_abx.errors import InputError
from w2v_abx.features import writing
from w2v_abx.features.digests import digest_extractor
from w2v_abx.features.extraction import extract
from w2v_abx.features.store import FeatureStore
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc

SETTING = AbxSetting(batch_seconds=3.0)


@pytest.fixture
def trainer(tmp_path: Path) -> lightning.Trainer:
    return quiet_trainer(tmp_path)


@pytest.fixture
def speech(tmp_path: Path) -> Speech:
    return noises(tmp_path)


@pytest.mark.parametrize("extractor", [Encoder.random(ARCHITECTURE), Mfcc()], ids=["encoder", "mfcc"])
def test_scores_are_those_of_features_in_memory(
    extractor: Encoder | Mfcc, speech: Speech, trainer: lightning.Trainer, tmp_path: Path
) -> None:
    expected = evaluate("model", extractor, speech, SETTING, trainer)
    whole = evaluate("model", extractor, speech, SETTING, trainer, tmp_path / "whole")
    half = evaluate("model", extractor, speech, SETTING, trainer, tmp_path / "half", "float16")
    assert list(whole.scores) == list(expected.scores)
    for place, scores in expected.scores.items():
        assert whole.scores[place].cells.equals(scores.cells)
        assert whole.scores[place].deltas.equals(scores.deltas)
        assert half.scores[place].error() == pytest.approx(scores.error(), abs=1e-3)
        assert half.scores[place].delta.mean == pytest.approx(scores.delta.mean, abs=1e-3)
    bytes_ = [(tmp_path / name / "layer_00.npy").stat().st_size - 128 for name in ("whole", "half")]
    assert bytes_[0] == 2 * bytes_[1]


def test_layers_may_be_asked_in_any_order(speech: Speech, trainer: lightning.Trainer, tmp_path: Path) -> None:
    encoder = Encoder.random(ARCHITECTURE).train()
    store = extract(encoder, speech.files, [1, 0], tmp_path / "store", batch_seconds=3.0, trainer=trainer)
    assert encoder.training
    features = extract_all(encoder.eval(), speech.files, [1, 0], 3.0, trainer)
    assert store.layers == [0, 1]
    for layer in store.layers:
        assert set(store.keys) == set(speech.files)
        assert all(store.clip(layer, key).equal(features[layer][key]) for key in speech.files)


def test_bf16_features_are_stored_in_float32(speech: Speech, tmp_path: Path) -> None:
    encoder, setting = Encoder.random(ARCHITECTURE), AbxSetting(layers=[1], speaker="across", batch_seconds=3.0)
    trainer = quiet_trainer(tmp_path, precision="bf16-mixed")
    stored = evaluate("model", encoder, speech, setting, trainer, tmp_path / "store")
    expected = evaluate("model", encoder, speech, setting, trainer)
    assert stored.scores[1, "across"].cells.equals(expected.scores[1, "across"].cells)


def test_features_are_reused_where_nothing_has_changed(
    speech: Speech, trainer: lightning.Trainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "w2v_abx")
    folder, encoder = tmp_path / "store", Encoder.random(ARCHITECTURE)

    def extracted(encoder: Encoder | Mfcc = encoder, layers: tuple[int, ...] = (0, 1), **options: object) -> str:
        """Whether features were ``reused`` or ``replaced``, as the log says."""
        caplog.clear()
        options = {"batch_seconds": 3.0, "trainer": trainer} | options
        store = extract(encoder, options.pop("clips", speech.files), layers, folder, **options)  # type: ignore[arg-type]
        assert store.layers == list(layers)
        assert store.identity.extractor == digest_extractor(encoder)
        return next((word for word in ("reused", "replaced") if f"are {word}" in caplog.text), "")

    assert extracted() == ""
    assert extracted() == "reused"
    assert extracted(Encoder.random(ARCHITECTURE), batch_seconds=2.0) == "reused"
    assert extracted(Encoder.random(ARCHITECTURE, seed=1)) == "replaced"
    assert extracted() == "replaced"
    with torch.no_grad():
        next(encoder.parameters())[0] += 1e-3
    assert extracted() == "replaced"
    encoder.normalized = not encoder.normalized
    assert extracted() == "replaced"
    assert extracted(layers=(1,)) == "replaced"
    assert extracted(layers=(1,), dtype="float16") == "replaced"
    assert (
        extracted(layers=(1,), dtype="float16", trainer=quiet_trainer(tmp_path, precision="bf16-mixed")) == "replaced"
    )
    fewer = dict(list(speech.files.items())[1:])
    assert extracted(clips=fewer) == "replaced"
    assert extracted(clips=fewer) == "reused"
    first, second = list(fewer)[:2]
    fewer[first].write_bytes(fewer[second].read_bytes())
    assert extracted(clips=fewer) == "replaced"
    assert extracted(clips=fewer | {first: fewer[second], second: fewer[first]}) == "reused"  # the same sounds
    assert extracted(Mfcc(), layers=(0,)) == "replaced"


KILLED = """
import json, os, signal, sys
from pathlib import Path
from small import ARCHITECTURE, quiet_trainer
from w2v_abx.features import writing
from w2v_abx.features.extraction import extract
from w2v_abx.models.encoder import Encoder

files, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
writing.FLUSH_BYTES = 0
encoder, calls = Encoder.random(ARCHITECTURE), []

def count(*_):
    calls.append(0)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)

encoder.register_forward_hook(count)
files = {key: Path(path) for key, path in files.items()}
extract(encoder, files, [0, 1], folder, batch_seconds=3.0, trainer=quiet_trainer(folder.parent))
"""


def test_a_killed_extraction_goes_on_with_the_clips_that_are_missing(
    speech: Speech, trainer: lightning.Trainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "w2v_abx")
    folder, files = tmp_path / "store", {key: str(path) for key, path in speech.files.items()}
    paths = os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path])
    command = [sys.executable, "-c", KILLED, json.dumps(files), str(folder)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not folder.exists()
    done = [json.loads(line)[0] for line in (tmp_path / ".store.partial" / "journal.jsonl").read_text().splitlines()]
    assert 0 < len(done) < len(files)
    encoder, seen = Encoder.random(ARCHITECTURE), []
    encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[1])))
    store = extract(encoder, speech.files, [0, 1], folder, batch_seconds=3.0, trainer=trainer)
    assert f"{len(done)} of {len(files)} clips are there" in caplog.text
    assert sum(seen) == len(files) - len(done)
    assert store.keys[: len(done)] == done
    expected = extract_all(encoder, speech.files, [0, 1], 3.0, trainer)
    for layer in (0, 1):
        for key in files:
            torch.testing.assert_close(store.clip(layer, key), expected[layer][key], rtol=1e-3, atol=1e-4)


def test_an_error_keeps_what_is_extracted(speech: Speech, trainer: lightning.Trainer, tmp_path: Path) -> None:
    path = min(speech.files.values(), key=lambda path: path.stat().st_size)  # long ones come first
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000] + bytes(500) + whole[-500:])  # its header is whole
    with pytest.raises(InputError, match="cannot be decoded"):
        extract(Mfcc(), speech.files, [0], tmp_path / "store", batch_seconds=1.0, trainer=trainer)
    assert (tmp_path / ".store.partial" / "journal.jsonl").read_text()
    assert not (tmp_path / "store").exists()


def test_a_damaged_store_is_not_taken_for_one(speech: Speech, trainer: lightning.Trainer, tmp_path: Path) -> None:
    evaluate("model", Mfcc(), speech, SETTING, trainer, tmp_path / "store")
    path = tmp_path / "store" / "layer_00.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="store is damaged .*: remove it"):
        evaluate("model", Mfcc(), speech, SETTING, trainer, tmp_path / "store")


def test_several_processes_are_refused(speech: Speech, tmp_path: Path) -> None:
    several = quiet_trainer(tmp_path, devices=2, strategy="ddp")
    with pytest.raises(InputError, match=r"needs one process; set trainer\.devices=1"):
        extract(Mfcc(), speech.files, [0], tmp_path / "store", trainer=several)


def test_an_extractor_whose_weights_are_unknown_is_refused(speech: Speech, tmp_path: Path) -> None:
    class Own:
        n_layers, dim, frequency = 1, 1, 50.0

    with pytest.raises(InputError, match="Own is not a torch.nn.Module"):
        extract(Own(), speech.files, [0], tmp_path / "store")  # type: ignore[arg-type]


def test_features_go_to_disk_batch_by_batch(
    speech: Speech, trainer: lightning.Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    add = writing.StoreWriter.add

    def watched(self: writing.StoreWriter, keys: list[str], hidden: list[torch.Tensor], lengths: torch.Tensor) -> None:
        add(self, keys, hidden, lengths)
        for file in self._files:
            file.flush()
        sizes.append(sum(path.stat().st_size - 128 for path in self.partial.glob("layer_*.npy")))

    monkeypatch.setattr(writing.StoreWriter, "add", watched)
    store = extract(Mfcc(), speech.files, [0], tmp_path / "store", batch_seconds=2.0, trainer=trainer)
    assert len(sizes) > 3
    assert len(set(sizes)) == len(sizes)
    assert sizes[-1] == FeatureStore(store.folder).index["frames"].sum() * 39 * 4
