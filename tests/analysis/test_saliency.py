"""What decisions of a head rest on, in the models that it can be asked in."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from speaking import SOURCE, TONES, head, model, speech

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.attribution import gradients
from w2v_abx.analysis.saliency import Saliency
from w2v_abx.errors import InputError
from w2v_abx.heads.readout import Kind, Readout
from w2v_abx.models.encoder import Encoder

FAST = {"steps": 4, "baselines": 2}
Given = tuple[dict[str, Model], Speech]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("given")
    said = speech(folder)
    names = ["before", "after", "mfcc", "random"]
    models = {
        name: model(name, said, folder, seed, baseline=name in ("mfcc", "random")) for seed, name in enumerate(names)
    }
    return models, said


def asked(given: Given, readout: Readout, **settings: Any) -> AnalysisResult:
    models, said = given
    heads = models | {"after": replace(models["after"], readouts={"tones": readout})}
    analysis = Saliency(**FAST, **settings)
    analysis.check(said.items, list(heads))
    return analysis(heads, said, seed=0)


@pytest.fixture(scope="module")
def result(given: Given) -> AnalysisResult:
    return asked(given, head())


def test_the_first_item_of_each_class_in_both_models(given: Given, result: AnalysisResult) -> None:
    _, said = given
    rows = result.tables["decisions"]
    assert rows["model"].to_list() == ["before"] * 3 + ["after"] * 3
    assert rows["reader"].unique().to_list() == ["after"]  # the untrained model has no head
    items = said.items.frame
    for row in rows.iter_rows(named=True):
        first = items.filter(tone=row["class"]).row(0, named=True)
        assert (row["file"], row["onset"]) == (first["#file"], float(first["onset"]))
    assert rows["class"].to_list()[:3] == list(TONES)
    text = " ".join(result.notes)
    assert "mfcc is left out: it has no weights" in text
    assert "random is left out" in text


def test_scores_are_log_probabilities_of_the_items_frames(given: Given, result: AnalysisResult) -> None:
    models, _ = given
    readout = head()
    for row in result.tables["decisions"].iter_rows(named=True):
        hidden = {2: models[row["model"]].store.clip(2, row["file"])}
        scores = readout(hidden).log_softmax(-1)[:, readout.outputs.index(row["class"])]
        frames = [f for f in range(len(scores)) if row["onset"] <= (f + 0.5) / 50 <= row["offset"]]
        assert row["end"] == pytest.approx(float(scores[frames].mean()), abs=1e-3)
    bands = result.tables["bands"].group_by("model", "decision").agg(total=pl.col("value").sum())
    joined = result.tables["decisions"].join(bands, on=["model", "decision"])
    change = joined["end"] - joined["start"]
    assert ((joined["total"] - change).abs() <= joined["gap"] + 1e-4).all()


def test_attention_of_a_decision_sums_to_one(result: AnalysisResult) -> None:
    frames = result.tables["frames"].group_by("model", "decision").agg(total=pl.col("attention").sum())
    np.testing.assert_allclose(frames["total"], 1, atol=1e-6)


def test_random_weights_change_the_map(result: AnalysisResult) -> None:
    sanity = result.tables["sanity"]
    assert sanity["random"].to_list() == ["head", "head and blocks", "all weights"] * 3
    assert sanity["model"].unique().to_list() == ["after"]
    assert bool((sanity["signed"].abs() < 0.95).all())
    np.testing.assert_allclose(sanity.filter(random="head")["attention"], 1)  # it does not know the head
    assert bool((sanity.filter(random="all weights")["attention"] < 0.999).all())


def test_it_is_the_same_again_and_for_any_batch(given: Given, result: AnalysisResult) -> None:
    again = asked(given, head())
    assert again.tables["bands"].equals(result.tables["bands"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients.integrated_gradients, "__defaults__", (1,))
        one = asked(given, head(), decisions=1).tables["bands"]["value"].to_numpy()
    np.testing.assert_allclose(one, result.tables["bands"].filter(decision=0)["value"], atol=1e-5)


def test_of_ctc_the_frame_that_is_surest(given: Given) -> None:
    models, _ = given
    readout = head("ctc", outputs=("", *TONES))
    row = asked(given, readout, decisions=1).tables["decisions"].filter(model="after").row(0, named=True)
    scores = readout({2: models["after"].store.clip(2, row["file"])}).log_softmax(-1)[:, 1]
    frames = [f for f in range(len(scores)) if row["onset"] <= (f + 0.5) / 50 <= row["offset"]]
    surest = max(frames, key=lambda frame: float(scores[frame]))
    assert row["at"] == pytest.approx((surest + 0.5) / 50)
    assert row["end"] == pytest.approx(float(scores[surest]), abs=1e-3)


@pytest.mark.parametrize("kind", ["utterance", "multilabel"])
def test_of_a_clip_all_its_frames(given: Given, kind: Kind) -> None:
    models, _ = given
    readout = head(kind)
    row = asked(given, readout, decisions=1).tables["decisions"].filter(model="after").row(0, named=True)
    logits = readout({2: models["after"].store.clip(2, row["file"])})
    expected = logits.log_softmax(-1)[0] if kind == "utterance" else torch.nn.functional.logsigmoid(logits)[0]
    assert row["end"] == pytest.approx(float(expected), abs=1e-3)


def test_a_time_and_a_class_of_a_file(given: Given) -> None:
    models, _ = given
    rows = asked(given, head(), file="文2", time=0.33, classes=["4"]).tables["decisions"]
    assert rows["at"].to_list() == [0.33] * 2
    scores = head()({2: models["after"].store.clip(2, "文2")}).log_softmax(-1)
    assert rows.filter(model="after")["end"].item() == pytest.approx(float(scores[16, 2]), abs=1e-3)


def test_without_the_label_it_is_what_the_head_decides_for(given: Given) -> None:
    models, _ = given
    readout = replace(head(), label="mood")
    found = asked(given, readout, decisions=2)
    rows = found.tables["decisions"].filter(model="after")
    assert rows["file"].to_list() == ["文0", "文1"]
    for row in rows.iter_rows(named=True):
        scores = readout({2: models["after"].store.clip(2, row["file"])}).log_softmax(-1)[:5].mean(0)
        assert row["class"] == readout.outputs[int(scores.argmax())]
    assert any("Items have no column mood" in note for note in found.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time": 1.0}, r"time=1 needs analysis.saliency.file"),
        ({"file": "x"}, r"analysis.saliency.file='x': no item is of that file; the first is of '文0'"),
        (
            {"file": "文1", "time": 0.45},
            r"no item of 文1, of at most analysis.saliency.seconds=6, at 0.45 s to decide on",
        ),
        ({"classes": ["9"]}, r"analysis.saliency.classes=\['9'\] must be .* 1, 2, 4"),
        ({"head": "sex"}, r"analysis.saliency.head='sex' must be one of tones"),
        ({"run": "before"}, r"analysis.saliency.run='before' must be one of after"),
        ({"run": "other"}, r"analysis.saliency.run='other' must be one of before, after"),
        ({"seconds": 0.1}, r"no item of a file of at most analysis.saliency.seconds=0.1 to decide on"),
        ({"seconds": 0.1, "file": "文1"}, r"no item of 文1, of at most analysis.saliency.seconds=0.1, to decide on"),
        ({"decisions": 0}, r"analysis.saliency.decisions=0 must be"),
        ({"seconds": 0}, r"analysis.saliency.seconds=0 must be"),
    ],
)
def test_what_cannot_be_asked_is_refused(given: Given, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(given, head(), **settings)


def test_models_without_a_head_are_refused(given: Given) -> None:
    models, said = given
    with pytest.raises(InputError, match="needs a trained head, and none of before, after, mfcc, random has one"):
        Saliency()(models, said, seed=0)


def test_a_model_that_the_head_does_not_fit_is_left_out(given: Given, tmp_path: Path) -> None:
    models, said = given
    deep = replace(models["after"], readouts={"tones": head(layers=(2,))})
    shallow = replace(models["before"], load=partial(Encoder.random, {**SOURCE, "num_hidden_layers": 1}))
    found = Saliency(**FAST, decisions=1)({"before": shallow, "after": deep}, said, seed=0)
    assert found.tables["decisions"]["model"].to_list() == ["after"]
    assert any("before is left out: the head does not fit its layers" in note for note in found.notes)


def test_the_configuration_holds_the_defaults() -> None:
    config = OmegaConf.load(Path(__file__).parents[2] / "conf" / "analysis" / "saliency.yaml")
    made, default = asdict(instantiate(config.saliency)), asdict(Saliency())
    assert made == {name: list(value) if isinstance(value, tuple) else value for name, value in default.items()}
