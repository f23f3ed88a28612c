"""The analysis of phonological vectors."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from stores import frame_items, item_features, made_model, made_store

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import Model
from w2v_abx.analysis.directions.analogies import measure
from w2v_abx.analysis.vectors import Vectors
from w2v_abx.errors import InputError

PHONES = [*"pbtdkg", "aa"]
FEATURES = np.array([[1, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1], [2, 2, 2, 0]])


@pytest.fixture(scope="module")
def speech() -> Speech:
    rows = [(s, p) for s in range(4) for p in PHONES * 3]
    return frame_items(
        file=[f"s{s}" for s, _ in rows], speaker=[f"s{s}" for s, _ in rows], **{"#phone": [p for _, p in rows]}
    )


@pytest.fixture(scope="module")
def models(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Model]:
    """Before, phones lie anywhere; after, where their features are; MFCC is at twice the rate."""
    folder = tmp_path_factory.mktemp("stores")
    rows = [PHONES.index(phone) for phone in speech.items.frame["#phone"]]
    anywhere = np.random.default_rng(5).normal(size=(7, 4))
    before = item_features(speech, anywhere[rows], 0.1)
    after = item_features(speech, FEATURES[rows], 0.1)
    mfcc = {key: np.repeat(value, 2, axis=0) for key, value in after.items()}
    return {
        "before": made_model("before", made_store(folder / "before", {1: before})),
        "after": made_model("after", made_store(folder / "after", {1: after})),
        "mfcc": made_model("mfcc", made_store(folder / "mfcc", {0: mfcc}, 100.0)),
    }


def test_finds_the_space_in_which_features_add_up(models: Mapping[str, Model], speech: Speech) -> None:
    vectors = Vectors(alphabet="timit")
    vectors.check(speech.items, list(models))
    result = vectors(models, speech, seed=0)
    scores = result.tables["scores"]
    assert set(scores["feature"]) == {"all", "voi"}
    assert scores.select("model", "layer").unique(maintain_order=True).rows() == [
        ("before", 1), ("after", 1), ("mfcc", 0),
    ]  # fmt: skip
    by = {row["model"]: row for row in scores.filter(feature="voi").rows(named=True)}
    assert by["after"]["cosine"] > 0.95
    assert by["after"]["accuracy"] == by["mfcc"]["accuracy"] == 1
    assert by["before"]["cosine"] < 0.7
    assert (by["after"]["quadruples"], by["after"]["phones"]) == (3, 6)
    assert by["after"]["cosine_low"] < by["after"]["cosine"] < by["after"]["cosine_high"] <= 1
    assert result.facts["chance"] == 1 / 4
    assert sorted(result.tables["analogies"].rows()) == [
        ("voi", "b", "p", "t", "d"), ("voi", "g", "k", "p", "b"), ("voi", "g", "k", "t", "d"),
    ]  # fmt: skip
    change = result.tables["differences"].filter(feature="voi", measure="cosine").row(0, named=True)
    assert (change["model"], change["layer"]) == ("after", 1)
    assert change["difference"] == pytest.approx(by["after"]["cosine"] - by["before"]["cosine"])
    assert change["reach"] > 0


def test_centroids_are_means_of_items(models: Mapping[str, Model], speech: Speech) -> None:
    scores = Vectors(alphabet="timit")(models, speech, seed=0).tables["scores"]
    vectors = models["before"].store.segments(1, speech.items)
    names = sorted(PHONES)
    said = speech.items.frame["#phone"].to_numpy()
    means = np.stack([vectors[said == name].mean(0, dtype=float) for name in names])
    tasks = np.array([[names.index(n) for n in four] for four in ("bpkg", "bptd", "dtkg")])
    wanted = measure(means, tasks, tasks)[:, 0].mean()
    assert scores.filter(model="before", feature="all")["cosine"].item() == pytest.approx(wanted)


def test_one_speaker_gives_an_interval_over_phones_alone(models: Mapping[str, Model], speech: Speech) -> None:
    one = Speech(speech.items.take(np.flatnonzero(speech.items.frame["speaker"] == "s0")), {})
    result = Vectors(alphabet="timit", min_count=3)(models, one, seed=0)
    assert "not over speakers: there is one" in " ".join(result.notes)
    assert result.tables["scores"]["cosine_low"].null_count() == 0


def test_rare_phones_are_left_out_and_named(models: Mapping[str, Model], speech: Speech) -> None:
    kept = (speech.items.frame["#phone"] != "aa") | (pl.Series(np.arange(len(speech.items))) < 7)
    few = Speech(speech.items.take(np.flatnonzero(kept.to_numpy())), {})
    result = Vectors(alphabet="timit")(models, few, seed=0)
    assert result.facts["phones"] == sorted(PHONES[:6])
    assert result.notes[-1] == "Left out, of fewer than 10 items: aa."


def test_phones_of_no_alphabet_are_given_in_the_ipa() -> None:
    mnemonics = {"ph": "pʰ", "th": "tʰ", "kh": "kʰ"}
    items = frame_items(file=["a"] * 18, **{"#phone": [*"ptk", "ph", "th", "kh"] * 3}).items
    Vectors(ipa=mnemonics, min_count=3).check(items, ["before"])
    with pytest.raises(InputError, match="make 0 pairs of pairs"):
        Vectors(min_count=3).check(items, ["before"])


def test_espeaks_mnemonics_are_those_of_a_language() -> None:
    items = frame_items(file=["a"] * 24, **{"#phone": ["p", "b", "t", "d", "k", "g", "S", "Z"] * 3}).items
    Vectors(alphabet="espeak/en-us", min_count=3, min_quadruples=6).check(items, ["before"])
    with pytest.raises(InputError, match="analysis.vectors.alphabet='xx' must be one of"):
        Vectors(alphabet="espeak/xx")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alphabet": "arpabet"}, "analysis.vectors.alphabet='arpabet' must be one of ipa, timit"),
        ({"ipa": ["p"]}, "analysis.vectors.ipa=.* must be a mapping"),
        ({"differing": 0}, "analysis.vectors.differing=0 must be a whole number from 1"),
        ({"min_count": 0}, "analysis.vectors.min_count=0"),
        ({"min_quadruples": 0}, "analysis.vectors.min_quadruples=0"),
        ({"limit": 0}, "analysis.vectors.limit=0"),
        ({"label": "sound"}, "analysis.vectors.label='sound' must be one of speaker, #phone"),
        ({"min_quadruples": 4}, "make 3 pairs of pairs that differ alike, and 4 are needed"),
        ({"min_count": 13}, "the 0 phones of 13 items or more make 0 pairs of pairs"),
    ],
)
def test_refuses_what_cannot_be_asked(speech: Speech, wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Vectors(**{"alphabet": "timit", **wrong}).check(speech.items, ["before"])


def test_a_store_without_these_clips_is_refused(speech: Speech, tmp_path: Path) -> None:
    store = made_store(tmp_path / "other", {1: {"other": np.ones((5, 4))}})
    with pytest.raises(InputError, match="no features of 's0'"):
        Vectors(alphabet="timit")({"before": made_model("before", store)}, speech, seed=0)
