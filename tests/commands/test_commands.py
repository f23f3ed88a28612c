"""The commands as a user types them, in this process and in small."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small import ARCHITECTURE
from transformers import Wav2Vec2Model

from w2v_abx.abx import Items, Task, score
from w2v_abx.models.encoder import Encoder
from w2v_abx.training.saving.files import OF_TRAINING

Command = Callable[..., str]


def failure(run: Command, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    if isinstance(stopped.value.code, str):
        return stopped.value.code
    assert stopped.value.code == 2
    error = capfd.readouterr().err
    assert "Traceback" not in error
    return error


def pond_and(pond: Path, spoken: tuple[Path, Path]) -> tuple[str, ...]:
    """The overrides that train on the stranger's corpus and measure on the spoken items."""
    items, root = (f"abx.{key}={path}" for key, path in zip(("items", "root"), spoken, strict=True))
    return ("--config-dir", str(pond), "corpus=pond", "abx=item_file", items, root)


def test_without_a_command_they_are_listed(run: Command, capfd: pytest.CaptureFixture[str]) -> None:
    listed = run()
    for command in ("prepare", "train", "abx", "compare"):
        assert f"w2v-abx {command}" in listed
    assert "there is no command 'trian'" in failure(run, capfd, "trian")


def test_a_strangers_corpus_is_prepared_and_trained_on(
    run: Command, capfd: pytest.CaptureFixture[str], pond: Path, spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    assert "8 clips" in run("prepare", "--config-dir", str(pond), "corpus=pond")
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    out = run(
        "train",
        *pond_and(pond, spoken),
        "callbacks=monitor",
        "model=local",
        f"model.source={tmp_path / 'model'}",
        "thermal=simulated",
        "trainer.max_epochs=2",
        "data.batch_size=4",
        "hydra.run.dir=here",
    )
    folder = tmp_path / "here"
    recorded = json.loads((folder / "run.json").read_text())
    assert recorded["state"] == "finished"
    assert recorded["energy_wh"] is None  # of a simulated device
    assert recorded["verdict"] in " ".join(out.split())
    assert out.rstrip().endswith("report.html")
    for name in ("config.yaml", "metrics.csv", "thermal.csv", "report.html", "comparisons.json", "encoder/README.md"):
        assert (folder / name).stat().st_size > 0, name
    for tag in ("before", "after", "mfcc", "random"):
        assert pl.read_parquet(folder / "abx" / tag / "cells.parquet").height > 0
    rows = json.loads((folder / "head.json").read_text())["valid"]["labels"]["rows"]
    assert [row["category"] for row in rows] == ["frog", "rain"]
    assert list((folder / "checkpoints").glob("*.ckpt"))
    assert list((folder / "wandb").glob("offline-run-*"))
    monitored = pl.read_csv(folder / "monitor.csv")
    assert {(0, 0, "within"), (1, 1, "across")} <= set(monitored.select("step", "layer", "condition").rows())
    before = json.loads((folder / "abx" / "before" / "summary.json").read_text())["scores"]
    at_start = {(row["layer"], row["condition"]): row["error"] for row in before}
    for row in monitored.filter(pl.col("step") == 0).iter_rows(named=True):
        assert row["abx_error"] == pytest.approx(at_start[row["layer"], row["condition"]], abs=1e-6)
    assert "w2v-abx train" in (folder / "encoder" / "README.md").read_text()
    recorded = json.loads((folder / "run.json").read_text())
    assert recorded["command"].startswith("w2v-abx train --config-dir")
    assert recorded["clips"]["train"]["clips"] + recorded["clips"]["valid"]["clips"] == 8

    trained = Wav2Vec2Model.from_pretrained(folder / "encoder").state_dict()
    start = Wav2Vec2Model.from_pretrained(tmp_path / "model").state_dict()
    assert any(not np.array_equal(trained[name], start[name]) for name in start)

    compared = run("compare", f"before={folder}/abx/before", f"after={folder}", "hydra.run.dir=compared")
    read = [json.loads((tmp_path / name / "comparisons.json").read_text()) for name in ("here", "compared")]
    assert read[0]["comparisons"] == read[1]["comparisons"]
    assert "ABX error" in compared
    summary = folder / "abx" / "mfcc" / "summary.json"
    summary.write_text(summary.read_text().replace('"angular"', '"euclidean"'))
    other = (f"before={folder}/abx/before", f"after={folder}/abx/mfcc")
    assert "abx.distance is angular" in failure(run, capfd, "compare", *other)


def test_a_checkpoint_of_something_else_is_refused(
    run: Command, capfd: pytest.CaptureFixture[str], pond: Path, spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    data = pond_and(pond, spoken)
    model = ("model=local", "model.source=model", "thermal=off", "logger=csv", "data.batch_size=4")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    assert "is not a whole checkpoint" in failure(run, capfd, "train", *data, *model, "resume=text.ckpt")
    torch.save(dict.fromkeys(OF_TRAINING) | {"state_dict": {"linear.weight": torch.zeros(3)}}, tmp_path / "other.ckpt")
    assert "of another model" in failure(run, capfd, "train", *data, *model, "resume=other.ckpt")
    run("train", *data, *model, "hydra.run.dir=first", "trainer.max_epochs=1", "baselines=[]")
    resume = ("resume=first/checkpoints/last.ckpt", "hydra.run.dir=second", "trainer.max_epochs=2", "baselines=[]")
    run("train", *data, *model, *resume)
    steps = [json.loads((tmp_path / name / "run.json").read_text())["steps"] for name in ("first", "second")]
    assert steps[1] == 2 * steps[0]


def test_stored_features_are_scored(run: Command, spoken: tuple[Path, Path], tmp_path: Path) -> None:
    items = Items.read(spoken[0])
    rng = np.random.default_rng(2)
    features = {name: rng.standard_normal((25, 4)).astype(np.float32) for name in items.frame["#file"].unique()}
    (tmp_path / "features").mkdir()
    for name, frames in features.items():
        np.save(tmp_path / "features" / f"{name}.npy", frames)
    out = run("abx", "features=features", f"abx.items={spoken[0]}", "abx.speaker=across", "abx.frequency=50")
    line = json.loads(out.splitlines()[-1])
    (result,) = line["scores"]
    expected = score(features, items, Task.preset("across"), frequency=50)
    assert result["error"] == pytest.approx(expected.error())
    assert result["cells"] == expected.cells.height
    assert result["triplets"] == expected.triplets
    assert set(line["seconds"]) == {"load", "score"}


def test_a_model_is_scored_at_every_layer(run: Command, spoken: tuple[Path, Path], tmp_path: Path) -> None:
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    out = run(
        "abx", "model=local", f"model.source={tmp_path / 'model'}", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}",
        "abx.distance=cosine",
    )  # fmt: skip
    result = json.loads(out.splitlines()[-1])
    assert [(row["layer"], row["condition"]) for row in result["scores"]] == [
        (0, "within"),
        (0, "across"),
        (1, "within"),
        (1, "across"),
    ]
    for row in (*result["scores"], *result["baselines"]["mfcc"]):
        low, high = row["interval"] or (0, 1)
        assert low <= row["error"] <= high
        assert {"pairs", "speakers", "items", "cells", "triplets"} <= row.keys()
    (within, across) = result["warnings"]
    assert within.startswith("Few data across speakers: ")
    assert across in " ".join(out.split())
    folder = Path(result["folder"])
    assert f"Scores: {folder / 'abx' / 'scores'}" in out
    assert f"Report: {folder / 'report.html'}" in out
    assert {path.name for path in (folder / "abx").iterdir()} == {"scores", "mfcc"}
    page = (folder / "report.html").read_text()
    assert "MFCC" in page
    assert "finished" in page
    assert "running" not in page
    # Another name of the same distance: or `compare` would refuse to set it beside one that was asked for as angular.
    assert json.loads((folder / "abx" / "scores" / "summary.json").read_text())["distance"] == "angular"


def test_mfcc_is_a_model_that_is_scored(
    run: Command, capfd: pytest.CaptureFixture[str], spoken: tuple[Path, Path]
) -> None:
    data = (f"abx.items={spoken[0]}", f"abx.root={spoken[1]}")
    result = json.loads(run("abx", "model=mfcc", *data, "hydra.run.dir=alone").splitlines()[-1])
    assert result["baselines"] == {}
    beside = ("model=tiny_random", "baselines=[random,mfcc]", *data, "hydra.run.dir=beside")
    rows = json.loads(run("abx", *beside).splitlines()[-1])["baselines"]
    assert {tuple(row.items()) for row in map(str_values, rows["mfcc"])} == {
        tuple(row.items()) for row in map(str_values, result["scores"])
    }
    assert len(rows["random"]) == 10
    compared = run("compare", "before=beside/abx/mfcc", "after=alone", "hydra.run.dir=compared")
    assert "mfcc" in compared
    assert "alone" in compared
    assert "training" not in compared
    assert "forg" not in compared
    for wrong, says in (
        (("abx", "model=mfcc", "baselines=[random]", *data), "this one has none"),
        (("abx", "tag=mfcc", *data), "tag=mfcc is the name of a baseline"),
        (("abx", "baselines=[mfc]", *data), "baselines='mfc' must be one of"),
        (
            ("train", "model=mfcc", "model.train=all", "baselines=[]", "abx=item_file", *data),
            "model.train='all' must be",
        ),
    ):
        assert says in failure(run, capfd, *wrong)


def str_values(row: dict[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in row.items()}


def test_what_is_wrong_is_one_line(
    run: Command, capfd: pytest.CaptureFixture[str], pond: Path, spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    def wrong(*arguments: str) -> str:
        return failure(run, capfd, *arguments)

    misspelt = wrong("train", "trainer.max_epoch=2")
    assert "'trainer.max_epoch'" in misspelt
    assert "max_epochs" in misspelt
    assert "esc10" in wrong("prepare", "corpus=esc_10")
    assert "corpus.root" in wrong("prepare", "corpus=esc10", "corpus.root=nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty" in wrong("prepare", "corpus=folder", "corpus.name=e", "corpus.root=empty")
    assert "hear" in wrong("prepare", "--config-dir", str(pond), "corpus=pond", "corpus.label_column=hear")
    assert "abx.items" in wrong("abx", "abx.items=missing.item")
    assert "abx.context='some'" in wrong("abx", f"abx.items={spoken[0]}", "abx.context=some")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    bert = ("model=local", "model.source=bert")
    assert "bert" in wrong("abx", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}", *bert)
    assert "baselines='mfc'" in wrong("train", "baselines=[mfc]")
    assert "holds no ABX scores" in wrong("compare", "before=empty", "after=empty")
    assert "before is missing" in wrong("compare")
    assert "corpus.root is missing" in wrong("prepare", "corpus=folder", "corpus.name=e")
    assert "primary_layer=9 must be one of 0, 1" in wrong("train", "primary_layer=9")
    assert "abx.layers=9 must be one of 0, 1" in wrong("train", "abx.layers=[9]")


def test_an_item_past_the_end_of_its_file_names_its_line(
    run: Command, capfd: pytest.CaptureFixture[str], spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    text = spoken[0].read_text().replace("0.3", "0.9", 1)
    (tmp_path / "late.item").write_text(text)
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    late = failure(
        run, capfd, "abx", "model=local", "model.source=model", "abx.items=late.item", f"abx.root={spoken[1]}"
    )
    assert "late.item, line 2" in late


def test_digits_are_told_apart_where_the_real_recordings_are(run: Command, shared_data: Path, tmp_path: Path) -> None:
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    arguments = ("model=local", "model.source=model", "abx.layers=[0]", "abx.max_size_group=5", "abx.speaker=across")
    out = run("abx", "abx=fsdd", f"abx.root={shared_data / 'fsdd'}", *arguments)
    (result,) = json.loads(out.splitlines()[-1])["scores"]
    assert result["cells"] == 10 * 9 * 3 * 2  # ordered pairs of digits, speakers of A and B, other speakers for X
    assert 0 < result["error"] < 0.5
