"""`w2v-abx analyze`, and analyses at a training's end: of which models, on which speech, what is left and refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from omegaconf import OmegaConf
from small import ARCHITECTURE

from w2v_abx.analysis.analysis import read_result
from w2v_abx.commands.looking import analyses_for
from w2v_abx.errors import InputError
from w2v_abx.models.encoder import Encoder

Command = Callable[..., str]


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[str]:
    """Two encoders with other weights, in Hugging Face layout."""
    for seed in (0, 1):
        Encoder.random(ARCHITECTURE, seed).save(tmp_path / "models" / str(seed))
    return [str(tmp_path / "models" / str(seed)) for seed in (0, 1)]


@pytest.fixture
def asked(spoken: tuple[Path, Path]) -> list[str]:
    return [
        "analysis=isotropy",
        "abx=item_file",
        f"abx.items={spoken[0]}",
        f"abx.root={spoken[1]}",
        "hydra.run.dir=here",
    ]


def test_checkpoints_are_looked_into_beside_the_baselines(
    run: Command, asked: list[str], checkpoints: list[str], tmp_path: Path
) -> None:
    out = run("analyze", *asked, f"runs={{first: {checkpoints[0]}, second: {checkpoints[1]}}}")
    folder = tmp_path / "here"
    assert "Isotropy of first, second, mfcc, random, on 12 items of 12 files." in " ".join(out.split())
    assert json.loads((folder / "run.json").read_text())["state"] == "finished"
    found = read_result(folder, "isotropy")
    assert found is not None
    table = found.tables["isotropy"]
    assert table.group_by("model", maintain_order=True).len().rows() == [
        ("first", 2), ("second", 2), ("mfcc", 1), ("random", 2)
    ]  # fmt: skip
    assert table["mean_cosine"].is_between(-1, 1).all()
    page = (folder / "report.html").read_text()
    assert "<h2>Isotropy</h2>" in page
    assert "ABX error" not in page
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".svg"}


def test_a_model_may_be_named_by_its_preset(run: Command, asked: list[str], tmp_path: Path) -> None:
    run("analyze", *asked, "runs=[tiny]", "baselines=[random]", "analysis.isotropy.layers=[0,4]")
    found = read_result(tmp_path / "here", "isotropy")
    assert found is not None
    assert found.tables["isotropy"].select("model", "layer").rows() == [
        ("tiny", 0), ("tiny", 4), ("random", 0), ("random", 4)
    ]  # fmt: skip


def test_features_are_found_again(run: Command, asked: list[str], checkpoints: list[str], tmp_path: Path) -> None:
    again = [*asked, "baselines=[]", f"runs=[{checkpoints[0]}]"]
    run("analyze", *again)
    stores = {path: path.stat().st_ino for path in (tmp_path / "data" / "features").rglob("*.npy")}
    run("analyze", *again, "hydra.run.dir=there")
    assert {path: path.stat().st_ino for path in (tmp_path / "data" / "features").rglob("*.npy")} == stores
    assert len(stores) == 2
    tables = [(tmp_path / name / "analysis" / "isotropy" / "isotropy.parquet") for name in ("here", "there")]
    assert pl.read_parquet(tables[0]).equals(pl.read_parquet(tables[1]))


def test_a_training_ends_with_analyses_and_its_run_can_be_looked_into(
    run: Command,
    pond: Path,
    spoken: tuple[Path, Path],
    checkpoints: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    measured = ["abx=item_file", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}", "baselines=[]"]
    model = ["model=local", f"model.source={checkpoints[0]}", "trainer.max_epochs=1", "data.batch_size=4"]
    trained = [
        "train",
        "--config-dir",
        str(pond),
        "corpus=pond",
        *measured,
        *model,
        "--multirun",
        "analysis=[isotropy]",
    ]
    run(*trained, "seed=0,1", "hydra.sweep.dir=sweep", "name=pond")
    first = read_result(tmp_path / "sweep" / "0", "isotropy")
    assert first is not None
    assert first.tables["isotropy"]["model"].unique(maintain_order=True).to_list() == ["before", "after"]
    assert "<h2>Isotropy</h2>" in (tmp_path / "sweep" / "0" / "report.html").read_text()
    run("analyze", "runs=[sweep]", "analysis=isotropy", "baselines=[random]", "hydra.run.dir=both")
    both = read_result(tmp_path / "both", "isotropy")
    assert both is not None
    table = both.tables["isotropy"]  # on the speech of the runs, since none is given
    assert table["model"].unique(maintain_order=True).to_list() == ["before", "seed=0", "seed=1", "random"]
    for old, new in (("before", "before"), ("after", "seed=0")):
        values = [rows.drop("model") for rows in (first.tables["isotropy"].filter(model=old), table.filter(model=new))]
        assert values[0].equals(values[1])
    (tmp_path / "sweep" / "1" / "head.json").write_text('{"valid": {"lab')
    with pytest.raises(SystemExit):
        run("analyze", "runs=[sweep]", "analysis=isotropy", "hydra.run.dir=damaged")
    assert "sweep/1/head.json is not JSON" in capfd.readouterr().err


def test_a_training_without_analyses_makes_no_speech_for_them() -> None:
    config = OmegaConf.create({"analysis": {}, "analysis_speech": {"_target_": "nobody.has.this"}})
    unused: Any = None
    assert analyses_for(config, unused, unused, unused) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["runs=[]"], "runs is empty; give a run's folder"),
        (["runs=[nowhere/at/all]"], "runs=nowhere/at/all: there is no such folder"),
        (["runs=[speech]"], "runs=speech holds no run that has been trained to its end, and no checkpoint"),
        (["runs=[models/0,models/0]"], "runs=models/0 is there twice"),
        (["runs={mfcc: models/0}"], "two models would be called 'mfcc'"),
        (["runs=[models/0]", "analysis.isotropy.layers=[0,2]"], "analysis.isotropy.layers=2 must be one of 0, 1"),
        (["runs=[models/0]", "analysis.isotropy.limit=1"], "analysis.isotropy.limit=1 must be a whole number from 2"),
        (["runs=[models/0]", "analysis=[]"], "analysis is empty: give at least one"),
        (["runs=[models/0]", "features.gigabytes=0"], "features.gigabytes=0: raise it"),
        # room for each of two models (40 kB), and not for both
        (
            ["runs=[models/0,models/1]", "baselines=[]", "features.gigabytes=0.00006"],
            "GB, and features.gigabytes=6e-05",
        ),
        (["runs=[models/0]", "baselines=[plp]"], "baselines='plp' must be one of mfcc, random"),
    ],
)
def test_what_cannot_be_looked_into_is_one_line(
    run: Command,
    asked: list[str],
    checkpoints: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    given: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("analyze", *asked, *given)
    assert stopped.value.code == 2
    error = capfd.readouterr().err.splitlines()
    assert message in error[-1]
    assert not (tmp_path / "here" / "analysis").exists()


def test_checkpoints_need_speech_to_be_looked_at_on(
    run: Command, checkpoints: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("analyze", "analysis=isotropy", f"runs=[{checkpoints[0]}]")
    assert "runs names no training run whose speech could be taken" in capfd.readouterr().err


@pytest.mark.parametrize("damage", ["table", "facts"])
def test_a_damaged_result_is_named(
    run: Command, asked: list[str], checkpoints: list[str], tmp_path: Path, damage: str
) -> None:
    run("analyze", *asked, f"runs=[{checkpoints[0]}]", "baselines=[]")
    path = tmp_path / "here" / "analysis" / "isotropy" / ("isotropy.parquet" if damage == "table" else "result.json")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"here/analysis/isotropy is damaged .*: remove it"):
        read_result(tmp_path / "here", "isotropy")


@pytest.mark.parametrize("analysis", ["similarity", "probe"])
def test_a_broken_model_is_one_line(
    run: Command, asked: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], analysis: str
) -> None:
    encoder = Encoder.random(ARCHITECTURE, 0)
    for weight in encoder.parameters():
        weight.data.fill_(float("nan"))
    encoder.save(tmp_path / "broken")
    with pytest.raises(SystemExit) as stopped:
        run("analyze", *asked, f"analysis={analysis}", "runs=[broken]", "baselines=[]")
    assert stopped.value.code == 2
    assert "layer 0: features hold a NaN or an infinite number" in capfd.readouterr().err.splitlines()[-1]


def test_items_behind_the_last_frame_are_left_out(
    run: Command, spoken: tuple[Path, Path], checkpoints: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file of 0.5 s has 25 frames, the last of them centred at 0.49 s; an item may be labelled a little beyond."""
    lines = spoken[0].read_text().splitlines()
    spoken[0].write_text("\n".join([*lines, *(f"{line.split()[0]} 0.5 0.52 a t k x" for line in lines[1:3])]) + "\n")
    asked = ["abx=item_file", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}", "hydra.run.dir=here"]
    run("analyze", "analysis=[isotropy,probe]", *asked, f"runs=[{checkpoints[0]}]", "analysis.probe.labels=['#phone']")
    found = read_result(tmp_path / "here", "probe")
    assert found is not None
    assert found.facts["points"] == 12
