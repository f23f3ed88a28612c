"""The analysis of linear probes."""

from collections.abc import Mapping

import numpy as np
import pytest
from stores import frame_items, item_features, made_model, made_store

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import Model
from w2v_abx.analysis.probe import Probe
from w2v_abx.errors import InputError

PHONES = "abcd"


@pytest.fixture(scope="module")
def speech() -> Speech:
    rows = [(s, f, p) for s in range(6) for f in range(2) for p in PHONES * 2]
    random = np.random.default_rng(1)
    return frame_items(
        file=[f"s{s}_{f}" for s, f, _ in rows],
        speaker=[f"s{s}" for s, _, _ in rows],
        sex=["fm"[s % 2] for s, _, _ in rows],
        **{
            "#phone": [p for _, _, p in rows],
            "prev-phone": random.choice([*PHONES], len(rows)).tolist(),
            "next-phone": random.choice([*PHONES], len(rows)).tolist(),
        },
    )


@pytest.fixture(scope="module")
def models(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Model]:
    """Layer 1 of "before" tells phones and layer 2 nothing; MFCC, at twice the rate, tells sexes."""
    folder = tmp_path_factory.mktemp("stores")
    known = np.eye(4)[[PHONES.index(p) for p in speech.items.frame["#phone"]]]
    sexes = np.eye(4)[[int(sex == "f") for sex in speech.items.frame["sex"]]]
    layers = {
        1: item_features(speech, 3 * known, 1.0),
        2: item_features(speech, np.zeros_like(known), 1.0),
    }
    mfcc = {key: np.repeat(value, 2, axis=0) for key, value in item_features(speech, 5 * sexes, 1.0).items()}
    return {
        "before": made_model("before", made_store(folder / "before", layers)),
        "mfcc": made_model("mfcc", made_store(folder / "mfcc", {0: mfcc}, 100.0)),
    }


@pytest.mark.parametrize("level", ["segments", "frames"])
def test_finds_which_layer_tells_what(models: Mapping[str, Model], speech: Speech, level: str) -> None:
    probe = Probe(labels=["#phone", "sex"], level=level, folds=3)  # type: ignore[arg-type]
    probe.check(speech.items, list(models))
    result = probe(models, speech, seed=0)
    scores = {row[:3]: row for row in result.tables["scores"].rows()}
    found = {key: dict(zip(result.tables["scores"].columns, row, strict=True)) for key, row in scores.items()}
    assert set(found) == {
        (model, layer, label)
        for model, layer in (("before", 1), ("before", 2), ("mfcc", 0))
        for label in ("#phone", "sex")
    }
    assert found["before", 1, "#phone"]["accuracy"] > 0.9
    assert found["before", 1, "#phone"]["selectivity"] > 0.4
    assert found["before", 2, "#phone"]["accuracy"] < 0.45
    assert found["mfcc", 0, "sex"]["accuracy"] > 0.95
    assert found["mfcc", 0, "#phone"]["accuracy"] < 0.45
    assert result.facts["labels"]["#phone"]["chance"] == 0.25
    for row in found.values():
        assert row["selectivity"] == pytest.approx(row["accuracy"] - row["control"])
        assert row["accuracy_low"] is None or row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]


def test_says_what_was_held_out_drawn_and_left_out(models: Mapping[str, Model], speech: Speech) -> None:
    result = Probe(labels=["speaker"], limit=60, folds=2)(models, speech, seed=0)
    assert result.facts["points"] == 60
    assert result.notes[0] == "60 of 96 mean frames of items are classified, drawn at random."
    assert "tested on files that they have not seen (12 in 2 parts)" in result.notes[1]
    again = Probe(labels=["speaker"], limit=60, folds=2)(models, speech, seed=0)
    assert again.tables["counts"].equals(result.tables["counts"])
    assert result.tables["counts"].filter(model="mfcc", task="label")["total"].sum() == 60


def test_layers_are_chosen_and_baselines_taken_as_they_are(models: Mapping[str, Model], speech: Speech) -> None:
    scores = Probe(labels=["sex"], layers=[2], folds=3)(models, speech, seed=0).tables["scores"]
    assert scores.select("model", "layer").rows() == [("before", 2), ("mfcc", 0)]


def test_without_types_there_is_no_control_task(models: Mapping[str, Model], speech: Speech) -> None:
    probe = Probe(labels=["#phone", "sex"], layers=[1], folds=3, types=["#phone"])
    rows = probe(models, speech, seed=0).tables["scores"].rows(named=True)
    assert {row["label"] for row in rows if row["control"] is None} == {"#phone"}
    bare = Speech(type(speech.items)(speech.items.frame.drop("#phone", "prev-phone", "next-phone")), {})
    scores = Probe(folds=3)(models, bare, seed=0).tables["scores"]
    assert set(scores["label"]) == {"sex", "speaker"}
    assert scores["control"].null_count() == scores["selectivity"].null_count() == scores.height


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"level": "words"}, "analysis.probe.level='words' must be one of segments, frames"),
        ({"limit": 1}, "analysis.probe.limit=1 must be a whole number from 2"),
        ({"folds": 1}, "analysis.probe.folds=1"),
        ({"shrinkages": [0.0]}, "analysis.probe.shrinkages=0.0 must be a number above 0"),
        ({"shrinkages": []}, "analysis.probe.shrinkages=.* must be a list"),
        ({"shrinkages": 0.1}, "analysis.probe.shrinkages=0.1 must be a list"),
        ({"labels": "tone"}, "analysis.probe.labels='tone' must be a list of item columns"),
        ({"labels": ["tone"]}, "analysis.probe.labels=tone: items have no such column"),
        ({"labels": ["#phone"], "types": ["word"]}, "analysis.probe.types=word: items have no such column"),
    ],
)
def test_refuses_what_cannot_be_asked(speech: Speech, wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Probe(**wrong).check(speech.items, ["before"])


def test_one_value_or_nothing_to_hold_out_is_refused() -> None:
    one = frame_items(file=["a", "b"], **{"#phone": ["x", "x"]})
    with pytest.raises(InputError, match="#phone: items have only the value 'x'"):
        Probe(labels=["#phone"]).check(one.items, ["before"])
    single = frame_items(file=["a", "b"], **{"#phone": ["x", "y"]})
    with pytest.raises(InputError, match="#phone: no two of its values are had by two items each"):
        Probe(labels=["#phone"]).check(single.items, ["before"])
    alone = frame_items(file=["a"] * 4, **{"#phone": [*"xyxy"]})
    Probe(labels=["#phone"]).check(alone.items, ["before"])
    with pytest.raises(InputError, match="#phone: no two of its values are had by two files each"):
        Probe(labels=["#phone"], level="frames").check(alone.items, ["before"])
