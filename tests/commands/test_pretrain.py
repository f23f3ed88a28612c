"""Self-supervised training and replay as a user types them, in small."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from small import ARCHITECTURE
from tones import Sequences
from transformers import Wav2Vec2ForPreTraining

from w2v_abx import shards
from w2v_abx.models.encoder import Encoder

SMALL = ("trainer.max_epochs=1", "data.batch_size=4", "baselines=[]", "logger=csv", "thermal=off")


@pytest.fixture
def overrides(pond: Path, spoken: tuple[Path, Path], tmp_path: Path) -> tuple[str, ...]:
    """A stranger's corpus, items to measure on, and a small model."""
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    items, root = (f"abx.{key}={path}" for key, path in zip(("items", "root"), spoken, strict=True))
    model = ("model=local", f"model.source={tmp_path / 'model'}", "data.num_workers=0")
    return ("--config-dir", str(pond), "corpus=pond", "abx=item_file", items, root, *model, *SMALL)


def logged(folder: Path) -> set[str]:
    return set(pl.read_csv(folder / "metrics.csv").columns)


def test_pretraining_goes_on_from_run_to_run(run: Callable[..., str], overrides: tuple[str, ...]) -> None:
    small = (
        "objective=pretrain",
        "objective.heads.wav2vec2.sizes.entries=8",
        "objective.heads.wav2vec2.num_negatives=5",
    )
    run("train", *overrides, *small, "hydra.run.dir=first")
    names = {"train/wav2vec2_perplexity", "valid/wav2vec2_perplexity", "valid/wav2vec2_accuracy"}
    assert names | {"train/wav2vec2_temperature", "train/loss", "valid/loss"} <= logged(Path("first"))
    whole = Wav2Vec2ForPreTraining.from_pretrained("first/pretraining")
    assert whole.config.num_codevectors_per_group == 8
    Encoder.load("first/encoder")
    phases = json.loads(Path("first/phases.json").read_text())
    assert "pretraining/model.safetensors" in phases["training"]["files"]
    undivided = ("corpus.name=undivided", "corpus.valid=null")  # there need not be clips for a validation
    again = ("objective=pretrain", "model.source=first/pretraining")
    run("train", *overrides, *again, *undivided, "hydra.run.dir=second")
    assert "valid/wav2vec2_perplexity" not in logged(Path("second"))
    assert "drawn anew" in Path("first/train.log").read_text()
    said = Path("second/train.log")  # there is none where there is nothing to say
    assert not said.exists() or "drawn anew" not in said.read_text()
    assert json.loads(Path("second/pretraining/config.json").read_text())["num_codevectors_per_group"] == 8


def test_sounds_are_learned_and_speech_replayed(
    run: Callable[..., str], capfd: pytest.CaptureFixture[str], overrides: tuple[str, ...], tmp_path: Path
) -> None:
    shards.prepare(Sequences(tmp_path / "audio", {"train": 4}), tmp_path / "speech shards")
    speech = ("data=replay", f"data.mix.speech.folder={tmp_path / 'speech shards'}", "data.mix.speech.weight=0.4")
    objective = ("objective=multilabel_replay", "head@objective.heads.replay=replayed_contrastive")
    run("train", *overrides, *speech, *objective, "hydra.run.dir=replayed")
    assert {"train/labels_loss", "train/replay_loss", "train/replay_perplexity"} <= logged(Path("replayed"))
    with pytest.raises(SystemExit):
        run("train", *overrides, *speech, "hydra.run.dir=refused")
    assert "data.mix.speech have no targets" in capfd.readouterr().err
    assert not Path("refused/abx").exists()
