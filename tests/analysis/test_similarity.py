"""Similarity of layers to labels and between models, on stored features."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from stores import frame_items, item_features, made_model, made_store

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis import points
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.correlation import moments
from w2v_abx.analysis.normalisation import Normalisation
from w2v_abx.analysis.similarity import Similarity
from w2v_abx.errors import InputError

DIM = 10


@pytest.fixture(scope="module")
def speech() -> Speech:
    rows = [(s, f) for s in range(8) for f in range(3) for _ in range(15)]
    return frame_items(
        file=[f"s{s}_{f}" for s, f in rows],
        speaker=[f"s{s}" for s, _ in rows],
        sex=["fm"[s % 2] for s, _ in rows],
        **{"#phone": np.random.default_rng(1).choice([*"abc"], len(rows)).tolist()},
    )


@pytest.fixture(scope="module")
def models(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """``before`` says sex and nothing of phones; ``after`` the other way round; ``turned`` is before, turned."""
    folder, random = tmp_path_factory.mktemp("stores"), np.random.default_rng(2)
    phones = np.eye(3)[["abc".index(p) for p in speech.items.frame["#phone"]]]
    male = (speech.items.frame["sex"] == "m").to_numpy()
    voices = random.normal(size=(8, 2))[[int(s[1:]) for s in speech.items.frame["speaker"]]]
    noise = random.normal(size=(2, len(phones), DIM))
    before, after = noise[0] * np.linspace(1, 2, DIM), noise[1]
    before[:, 0] += 5 * male
    before[:, 1:3] += voices
    after[:, :3] += 3 * phones
    rotation = np.linalg.qr(random.normal(size=(DIM, DIM)))[0]
    vectors = {
        "before": before,
        "after": after,
        "turned": 2 * before @ rotation,
        "random": random.normal(size=noise[0].shape),
    }
    return {
        name: made_model(
            name, made_store(folder / name, {0: item_features(speech, found), 2: item_features(speech, found)})
        )
        for name, found in vectors.items()
    }


@pytest.fixture(scope="module")
def result(models: dict[str, Model], speech: Speech) -> AnalysisResult:
    return Similarity(layers=[0], permutations=3)(models, speech, seed=0)


def row(table: pl.DataFrame, **of: Any) -> dict[str, Any]:
    return table.filter(**of).row(0, named=True)


def test_labels_stand_above_their_floor_where_a_model_says_them(result: AnalysisResult) -> None:
    table = result.tables["labels"]
    assert table.height == 4 * 3 * 4
    assert table["model"].unique(maintain_order=True).to_list() == ["before", "after", "turned", "random"]
    for model, label in (("before", "sex"), ("after", "#phone"), ("turned", "sex")):
        found = row(table, model=model, label=label, measure="svcca")
        assert found["held_out"] > 0.7
        assert found["low"] < found["held_out"] < found["high"]
        assert found["low"] > 0.4 > found["held_out_floor"]
        assert found["split_half"] > 0.8
    for model, label in (("before", "#phone"), ("after", "sex")):
        found = row(table, model=model, label=label, measure="svcca")
        assert abs(found["held_out"]) < 0.2
        assert found["similarity"] == pytest.approx(found["floor"], abs=0.12)


def test_models_are_alike_up_to_rotation_and_scale(result: AnalysisResult) -> None:
    table = result.tables["models"]
    assert set(table["model"]) == {"after", "turned", "random"}
    for measure in ("svcca", "cca", "pwcca", "cka"):
        assert row(table, model="turned", measure=measure)["similarity"] == pytest.approx(1)
        assert row(table, model="random", measure=measure)["similarity"] < 0.3
    assert row(table, model="turned", measure="svcca")["held_out"] == pytest.approx(1)
    assert abs(row(table, model="random", measure="svcca")["held_out"]) < 0.1


@pytest.mark.parametrize("level", ["segments", "frames"])
def test_the_size_of_a_batch_changes_nothing(
    models: dict[str, Model], speech: Speech, level: points.Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {name: models[name] for name in ("before", "turned")}
    analysis = Similarity(layers=[2], limit=300, permutations=1, level=level, labels=["#phone", "speaker"])
    whole = analysis(chosen, speech, seed=3)
    monkeypatch.setattr(points, "BATCH", 17)
    monkeypatch.setattr(moments, "CHUNK", 5)
    parts = analysis(chosen, speech, seed=3)
    for name, table in whole.tables.items():
        assert_frame_equal(table, parts.tables[name], abs_tol=1e-8)
    assert whole.facts["points"] == 300
    assert any("drawn at random" in note for note in whole.notes)


def test_a_layer_that_has_collapsed_is_like_nothing(tmp_path: Path, speech: Speech) -> None:
    store = made_store(tmp_path / "store", {0: item_features(speech, np.full((len(speech.items), 3), 0.3))})
    table = Similarity(labels=["sex"])({"before": made_model("before", store)}, speech, seed=0).tables["labels"]
    assert table["similarity"].to_list() == [0] * 4
    assert table["held_out"].is_null().all()


def test_fewer_points_than_dimensions_are_said(tmp_path: Path) -> None:
    few = frame_items(file=[f"s{n}" for n in range(8)], speaker=[f"s{n}" for n in range(8)], sex=[*"fmfmfmfm"])
    store = made_store(tmp_path / "store", {0: item_features(few, np.random.default_rng(0).normal(size=(8, 20)))})
    result = Similarity(labels=["sex"])({"before": made_model("before", store)}, few, seed=0)
    assert row(result.tables["labels"], measure="cca")["similarity"] == pytest.approx(1)
    assert any("fewer points than" in note for note in result.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "words"}, "analysis.similarity.level='words' must be one of segments, frames"),
        ({"limit": 1}, "analysis.similarity.limit=1"),
        ({"variance": 0}, "analysis.similarity.variance=0"),
        ({"variance": 1.1}, "analysis.similarity.variance=1.1"),
        ({"folds": 1}, "analysis.similarity.folds=1"),
        ({"permutations": -1}, "analysis.similarity.permutations=-1"),
        ({"ridges": []}, "analysis.similarity.ridges"),
        ({"ridges": 0.1}, "analysis.similarity.ridges=0.1 must be a list"),
        ({"ridges": [-1.0]}, "analysis.similarity.ridges=-1"),
        ({"labels": "tone"}, "analysis.similarity.labels='tone' must be a list"),
        ({"between": 3}, "analysis.similarity.between=3 must be true or false"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        Similarity(**settings)


def test_labels_that_items_lack_are_refused(speech: Speech) -> None:
    with pytest.raises(InputError, match="analysis.similarity.labels=tone: items have no such column"):
        Similarity(labels=["tone"]).check(speech.items, ["before"])
    with pytest.raises(InputError, match="there is only before"):
        Normalisation().check(speech.items, ["before", "mfcc", "random"])


def test_normalisation_sees_what_falls_and_what_rises(models: dict[str, Model], speech: Speech) -> None:
    chosen = {name: models[name] for name in ("before", "after")}
    abx = {"on": "#phone", "speaker": "across", "context": "any", "max_size_group": 2, "max_x_across": 2}
    result = Normalisation(layers=[0], labels=["#phone", "sex"], abx=abx)(chosen, speech, seed=0)
    changes = result.tables["changes"]
    assert set(changes["model"]) == {"after"}
    for measure in ("similarity", "accuracy"):
        up, down = (row(changes, model="after", label=label, measure=measure) for label in ("#phone", "sex"))
        assert up["low"] > 0.2
        assert down["high"] < -0.2
        assert up["second"] - up["first"] == pytest.approx(up["difference"])
    assert set(result.tables["directions"]["model"]) == set(chosen)
    collapsed = result.tables["collapsed"]
    assert set(collapsed["collapsed"]) == {"speakers", "control"}
    assert set(collapsed["model"]) == set(chosen)
