"""The same points on the same axes, and the page on which they can be looked at."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.decomposition import PCA
from speaking import LAYERS, head, model, speech

from w2v_abx import audio
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.points import Points
from w2v_abx.analysis.projection import Projection
from w2v_abx.errors import InputError


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Model], Any]:
    folder = tmp_path_factory.mktemp("given")
    said = speech(folder)
    after = model("after", said, folder, 1, tones=head(), sex=replace(head("utterance"), label="sex"))
    models = [model("before", said, folder), after, model("mfcc", said, folder, baseline=True)]
    return {one.name: one for one in models}, said


@pytest.fixture(scope="module")
def result(given: tuple[dict[str, Model], Any]) -> AnalysisResult:
    models, said = given
    return Projection(methods=["pca"], limit=12, sounds=2)(models, said, seed=3)


def test_both_models_lie_on_axes_fitted_to_both(given: Any, result: AnalysisResult) -> None:
    models, said = given
    points = Points.draw(said.items, 50, "segments", 12, 3, 50)
    for layer in range(LAYERS):
        clouds = [points.vectors(models[name].store, layer).astype(float) for name in ("before", "after")]
        clouds = [cloud - cloud.mean(0) for cloud in clouds]
        expected = PCA(2).fit(np.concatenate(clouds))
        for name, cloud in zip(("before", "after"), clouds, strict=True):
            xy = result.tables["coordinates"].filter(model=name, layer=layer, method="pca").select("x", "y")
            np.testing.assert_allclose(xy.to_numpy(), expected.transform(cloud), atol=1e-6)
            spread = result.tables["spreads"].filter(model=name, layer=layer)
            shown = np.square(expected.transform(cloud)).sum() / np.square(cloud).sum()
            assert spread["shown"].item() == pytest.approx(shown)
    assert result.tables["coordinates"].filter(model="mfcc")["layer"].unique().to_list() == [0]
    assert result.facts["axes"] == [["before", "after"], ["mfcc"]]


def test_points_are_drawn_with_the_seed_and_said(given: Any, result: AnalysisResult) -> None:
    models, said = given
    assert (result.facts["points"], result.facts["of"]) == (12, 16)
    assert result.notes[0].startswith("12 segments, drawn at random from 16")
    again, other = (Projection(methods=["pca"], limit=12, sounds=2)(models, said, seed=seed) for seed in (3, 4))
    for name, table in result.tables.items():
        assert table.equals(again.tables[name])
    assert result.files == again.files
    assert not result.tables["points"].equals(other.tables["points"])
    all_ = Projection(methods=["pca"], limit=1000, sounds=0, level="frames")(models, said, seed=3)
    assert all_.notes[0].startswith(f"{all_.facts['of']} frames, all {all_.facts['of']}")


def test_errors_are_of_the_heads_that_can_be_asked(result: AnalysisResult) -> None:
    errors = result.tables["errors"]
    assert errors.select("model", "head").unique().rows() == [("after", "tones")]
    truth = result.tables["points"]["tone"]
    right = (errors["predicted"] == truth).to_list()
    assert [outcome == "right" for outcome in errors["outcome"]] == right
    assert any("sex decides on whole clips" in note for note in result.notes)


def page_data(result: AnalysisResult) -> Any:
    page = result.files["points.html"].decode()
    assert not re.search(r"https?:|\bsrc=|<link|@import|fetch\(", page)
    (script,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(script)


def test_the_page_holds_every_point_in_itself(result: AnalysisResult) -> None:
    data = page_data(result)
    assert data["models"] == ["before", "after", "mfcc"]
    assert {"#phone", "speaker", "tone", "errors: tones, after", "predicted: tones, after"} <= data["colourings"].keys()
    assert {"</script>", "ŋ", "б"} <= set(data["colourings"]["#phone"]["names"])
    points = result.tables["points"]
    names = [data["files"]["names"][code] for code in data["files"]["codes"]]
    assert names == points["#file"].to_list()
    # Both models' points are drawn by one scale, with equal limits.
    shown = {}
    for plane in data["planes"]:
        if plane["layer"] == 1:
            shown[plane["model"]] = np.frombuffer(base64.b64decode(plane["xy"]), "<i2").reshape(-1, 2)
    places = result.tables["coordinates"].filter(pl.col("layer") == 1)
    both = [places.filter(model=name).select("x", "y").to_numpy() for name in ("before", "after")]
    scale = np.ptp(np.concatenate(both), axis=0).max() / 64_000
    middle = (np.concatenate(both).min(0) + np.concatenate(both).max(0)) / 2
    for name, xy in zip(("before", "after"), both, strict=True):
        np.testing.assert_allclose(shown[name] * scale + middle, xy, atol=scale)


@pytest.mark.skipif(not shutil.which("node"), reason="node is not on this machine")
def test_the_script_of_the_page_can_be_parsed(result: AnalysisResult, tmp_path: Path) -> None:
    script = result.files["points.html"].decode().rpartition("<script>")[2].partition("</script>")[0]
    (tmp_path / "page.js").write_text(script)
    subprocess.run(["node", "--check", tmp_path / "page.js"], check=True)


def test_items_can_be_heard_as_they_sound(given: Any, result: AnalysisResult) -> None:
    _, said = given
    data, points = page_data(result), result.tables["points"]
    assert len(data["sounds"]) == 2
    for item, sound in data["sounds"].items():
        row = points.filter(item=int(item)).row(0, named=True)
        samples = audio.decode(base64.b64decode(sound))
        start = max(0.0, row["onset"] - 0.15)
        expected = audio.load(said.files[row["#file"]], start, min(0.5, row["offset"] + 0.15))
        np.testing.assert_allclose(samples, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 2}, "analysis.projection.limit=2 must be a whole number from 3"),
        ({"methods": ["tsne"]}, "analysis.projection.methods.* pca, umap"),
        ({"metric": "l1"}, "analysis.projection.metric='l1' must be one of cosine, euclidean"),
        ({"level": "words"}, "analysis.projection.level='words' must be"),
        ({"neighbours": 1}, "analysis.projection.neighbours=1 must be"),
        ({"min_dist": 2}, "analysis.projection.min_dist=2 must be"),
        ({"sounds": -1}, "analysis.projection.sounds=-1 must be"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Projection(**settings)


def test_labels_and_numbers_of_points_are_checked(given: Any) -> None:
    models, said = given
    with pytest.raises(InputError, match=r"analysis.projection.labels=rain: items have no such column"):
        Projection(labels=["rain"]).check(said.items, list(models))
    with pytest.raises(InputError, match=r"there are 16 segments, and a projection needs 21 or more.*neighbours=20"):
        Projection(neighbours=20)(models, said, seed=0)


def test_the_configuration_holds_the_defaults() -> None:
    config = OmegaConf.load(Path(__file__).parents[2] / "conf" / "analysis" / "projection.yaml")
    made, default = asdict(instantiate(config.projection)), asdict(Projection())
    assert made == {name: list(value) if isinstance(value, tuple) else value for name, value in default.items()}
