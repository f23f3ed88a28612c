"""A head in a file of the user's own, as the README describes it."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from small import ARCHITECTURE

from w2v_abx.models.encoder import Encoder

OWN_HEAD = """
from torch import nn, tensor
from w2v_abx.heads.head import Head
from w2v_abx.heads.pooling import mean_over_frames


class Number(Head):
    def __init__(self, encoder, data, name, label, **options):
        super().__init__(encoder, data, name, label, **options)
        self.linear = nn.Linear(encoder.dim, 1)

    def target(self, labels, frames, clock):
        return tensor(float(len(labels[self.label]))) if self.label in labels else None

    def loss_sum(self, states, batch):
        found = self.linear(mean_over_frames(self.mixed(states), states.frames))[:, 0]
        return {"loss": (found - self.own(batch).values).square().sum()}
"""


@pytest.fixture
def overrides(pond: Path, spoken: tuple[Path, Path], tmp_path: Path) -> tuple[str, ...]:
    """A stranger's corpus, items to measure on, and a small model."""
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    items, root = (f"abx.{key}={path}" for key, path in zip(("items", "root"), spoken, strict=True))
    quick = ("trainer.max_epochs=1", "data.batch_size=4", "baselines=[]", "logger=csv", "thermal=off")
    model = ("model=local", f"model.source={tmp_path / 'model'}")
    return ("--config-dir", str(pond), "corpus=pond", "abx=item_file", items, root, *model, *quick)


def test_a_head_of_the_users_own_trains_beside_others(
    run: Callable[..., str], overrides: tuple[str, ...], pond: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pond / "head").mkdir()
    (pond / "head" / "number.yaml").write_text("_target_: own_head.Number\n_partial_: true\nlabel: labels\n")
    (tmp_path / "own_head.py").write_text(OWN_HEAD)
    monkeypatch.syspath_prepend(str(tmp_path))
    heads = ("+head@objective.heads.count=number", "weighting=uncertainty", "objective.heads.labels.layers=weighted")
    run("train", *overrides, *heads, "hydra.run.dir=out")
    logged = set(pl.read_csv("out/metrics.csv").columns)
    wanted = {"train/count_loss", "train/labels_loss", "train/count_weight", "valid/count_loss", "valid/labels_map"}
    assert wanted <= logged
    assert set(json.loads(Path("out/head.json").read_text())["valid"]) == {"labels"}  # the other has no metrics


def test_heads_train_on_mfcc(run: Callable[..., str], overrides: tuple[str, ...]) -> None:
    asked = [override for override in overrides if not override.startswith("model")]
    said = run("train", *asked, "model=mfcc", "objective.heads.labels.layers=weighted", "hydra.run.dir=out")
    assert "nothing can have changed" in said
    assert json.loads(Path("out/head.json").read_text())["valid"]["labels"]["metrics"]["map"] > 0
    assert not Path("out/encoder").exists()
    run("train", *asked, "model=mfcc", "objective.heads.labels.layers=weighted", "hydra.run.dir=out", "resume=auto")
    with pytest.raises(SystemExit):
        run("train", *asked, "model=mfcc", "objective/masking=specaugment", "hydra.run.dir=masked")


def test_what_clips_are_taken_for_is_on_the_page_to_see_and_hear(
    run: Callable[..., str], overrides: tuple[str, ...], pond: Path, tmp_path: Path
) -> None:
    table = tmp_path / "sounds" / "sounds.csv"
    table.write_text(table.read_text().replace("frog|rain", "owl"))
    heads = (
        "~head@objective.heads.labels",
        "+head@objective.heads.kind=utterance",
        "objective.heads.kind.label=labels",
        "+head@objective.heads.heard=ctc",
        "objective.heads.heard.label=labels",
    )
    run("train", *overrides, *heads, "hydra.run.dir=out")
    results = json.loads(Path("out/head.json").read_text())["valid"]
    result = results["kind"]
    assert sum(map(sum, result["confusion"])) == result["metrics"]["clips"] > 0
    page = Path("out/report.html").read_text()
    assert "took each category for" in page
    transcripts = results["heard"]["transcripts"]
    assert transcripts
    assert len(list(Path("out/heads/heard").glob("*.flac"))) == len(transcripts)
    assert page.count("data:audio/flac;base64,") == len(transcripts)
