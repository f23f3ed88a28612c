"""Clusters of made-up features: what is known comes out, with and without blanks, and what cannot be is refused."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from clouds import PHONES, clouds, speech_of, store_of
from polars.testing import assert_frame_equal
from small import ARCHITECTURE

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.clustering import latents
from w2v_abx.analysis.clusters import CONVOLUTIONS, Clusters
from w2v_abx.errors import InputError
from w2v_abx.heads.readout import Readout
from w2v_abx.items.items import Items

SPEECH, NUMBERS = speech_of()
NOISE = np.random.default_rng(9).standard_normal((*NUMBERS.shape, 6))


def ctc(dims: int = 6) -> Readout:
    """A head that gives each frame its phone, and a blank where the fifth value is 1."""
    weight = torch.zeros(5, dims)
    centres = torch.from_numpy(clouds(np.arange(4), 4, spread=0)).float()
    weight[1:, :4] = centres
    weight[0, 4] = 100
    bias = torch.tensor([0.0, *(-centres.square().sum(1) / 2).tolist()])
    return Readout("phones", ["", *PHONES], "ctc", weight, bias, [1], torch.ones(1))


def features(blanks: bool = False) -> np.ndarray:
    """Clouds of four phones, of each of which the first and the last frame may be blank."""
    found = np.concatenate([clouds(NUMBERS, 4), np.zeros((*NUMBERS.shape, 2))], axis=2)
    if blanks:
        found[:, ::5, 4] = found[:, 4::5, 4] = 1
    return found


def model(folder: Path, name: str, layers: dict[int, np.ndarray], **settings: Any) -> Model:
    store = store_of(folder / name, layers, settings.pop("frequency", 50.0))
    return Model(name, store, SimpleNamespace, **settings)  # type: ignore[arg-type, return-value]


def analysed(clusters: Clusters, *models: Model, speech: Speech = SPEECH, seed: int = 0) -> AnalysisResult:
    return clusters({model.name: model for model in models}, speech, seed=seed)


def test_clusters_that_are_the_phones(tmp_path: Path) -> None:
    one = model(tmp_path, "before", {0: NOISE, 1: features()})
    result = analysed(Clusters(k=4, labels=["#phone", "speaker"], seeds=2), one)
    found = result.tables["agreement"].filter(layer=1, label="#phone")
    assert found["ami"].to_list() == pytest.approx([1, 1])
    assert found["purity"].to_list() == [1, 1]
    assert found["frames"].to_list() == [NUMBERS.size] * 2
    assert result.tables["agreement"].filter(layer=0, label="#phone")["ami"].max() < 0.1
    assert result.tables["stability"].filter(layer=1)["ari"].to_list() == [1]
    names = result.tables["names"].filter(layer=1, label="#phone")
    assert sorted(names["symbol"]) == sorted(PHONES)
    assert names["frames"].sum() == NUMBERS.size
    read = result.tables["decoding"].filter(layer=1)
    assert read["label"].to_list() == ["#phone"]  # speakers are no sequence
    assert read["error_rate"].to_list() == [0]
    assert read["hits"].to_list() == [NUMBERS.size // 5]
    assert "moves" not in result.tables


def test_what_a_model_predicts_with_and_without_blanks(tmp_path: Path) -> None:
    after = model(tmp_path, "after", {1: features(blanks=True)}, readouts={"phones": ctc()})
    result = analysed(Clusters(k=8, labels=["#phone"], seeds=1), after)
    table = result.tables["agreement"].filter(label="after: phones")
    kept, without = (table.filter(blanks=blanks) for blanks in (True, False))
    assert kept["frames"].item() == NUMBERS.size
    assert without["frames"].item() == NUMBERS.size * 3 // 5
    assert without["purity"].item() == kept["purity"].item() == 1
    head = result.tables["decoding"].filter(method="head")
    assert head.select("model", "label", "error_rate").rows() == [("after", "after: phones", 0.0)]
    # Half of the clusters hold blanks alone: as symbols count, they stand for nothing.
    assert result.tables["decoding"].filter(label="after: phones", layer=1)["error_rate"].item() == 0


def test_all_blanks_have_no_score_without_them(tmp_path: Path) -> None:
    blank = features()
    blank[:, :, 4] = 1
    after = model(tmp_path, "after", {1: blank}, readouts={"phones": ctc()})
    result = analysed(Clusters(k=4, labels=["#phone"], seeds=1), after)
    table = result.tables["agreement"].filter(label="after: phones")
    assert np.isnan(table.filter(blanks=False)["ami"].item())
    assert table.filter(blanks=True)["homogeneity"].item() == 1
    head = result.tables["decoding"].filter(method="head").row(0, named=True)
    assert (head["error_rate"], head["deletions"]) == (1, NUMBERS.size // 5)


def test_models_are_matched_layer_by_layer(tmp_path: Path) -> None:
    before = model(tmp_path, "before", {0: NOISE, 1: features()})
    after = model(tmp_path, "after", {0: NOISE, 1: -features()})
    mfcc = model(tmp_path, "mfcc", {0: clouds(NUMBERS.repeat(2, axis=1), 3)}, frequency=100.0, baseline=True)
    result = analysed(Clusters(k=4, labels=["#phone"], seeds=1), before, after, mfcc)
    moved = result.tables["moves"].filter(other="after")
    assert moved["other_layer"].to_list() == [0, 1]
    assert moved["drift"].to_list() == [0, 0]
    assert moved["splits"].to_list() == moved["merges"].to_list() == [0, 0]
    flows = result.tables["flows"].filter(other="after", layer=1)
    assert flows["frames"].sum() == NUMBERS.size
    assert flows["matched"].all()
    assert result.tables["agreement"].filter(model="mfcc")["ami"].item() == pytest.approx(1)


def test_frames_outside_items_are_grouped_and_count_for_predictions_alone(tmp_path: Path) -> None:
    half = Items(SPEECH.items.frame.filter(pl.col("onset").cast(pl.Float64) < 0.35))
    after = model(tmp_path, "after", {1: features(blanks=True)}, readouts={"phones": ctc()})
    result = analysed(Clusters(k=8, labels=["#phone"], seeds=1), after, speech=replace(SPEECH, items=half))
    frames = dict(result.tables["agreement"].filter(pl.col("blanks").fill_null(True)).select("label", "frames").rows())
    assert frames == {"#phone": NUMBERS[:, :20].size, "after: phones": NUMBERS.size}
    assert result.tables["decoding"]["error_rate"].to_list() == [0, 0, 0]


def test_characters_of_whole_clips(tmp_path: Path) -> None:
    texts = ["".join(PHONES[n] for n in own[::5]).upper() for own in NUMBERS]
    rows = {
        "#file": [f"f{n}" for n in range(6)],
        "onset": "0",
        "offset": "0.8",
        "text": texts,
        "speaker": list("aabbcc"),
    }
    letters = replace(ctc(), label="text")
    after = model(tmp_path, "after", {1: features(blanks=True)}, readouts={"letters": letters})
    speech = Speech(Items(pl.DataFrame(rows)), {})
    result = analysed(Clusters(k=8, labels=["speaker"], seeds=1), after, speech=speech)
    assert result.tables["decoding"]["label"].to_list() == ["after: letters"] * 2
    assert result.tables["decoding"]["error_rate"].to_list() == [0, 0]  # the head has small letters alone
    speech = Speech(Items(pl.DataFrame({**rows, "text": [f"{text} x" for text in texts]})), {})
    result = analysed(Clusters(k=8, labels=["speaker"], seeds=1), after, speech=speech)
    assert result.tables["decoding"]["deletions"].to_list() == [2 * len(texts)] * 2


def test_spaces_methods_and_several_k(tmp_path: Path) -> None:
    one = model(tmp_path, "before", {0: NOISE, 1: features()})
    clusters = Clusters(k=[2, 4], methods=["kmeans", "spherical"], spaces=["raw", "pca"], dims=3, last=True, seeds=1)
    table = analysed(clusters, one).tables["agreement"].filter(label="#phone")
    assert table["layer"].unique().to_list() == [1]
    assert len(table) == 8
    assert table.filter(k=4)["ami"].to_list() == pytest.approx([1] * 4)
    assert table.filter(k=2)["homogeneity"].max() < 0.9


def test_some_files_are_drawn_and_it_is_said(tmp_path: Path) -> None:
    one = model(tmp_path, "before", {1: features()})
    result = analysed(Clusters(k=4, frames=100, seeds=1), one)
    assert (result.facts["files"], result.facts["frames"]) == (3, 120)
    assert "3 of 6 files" in result.notes[0]
    assert analysed(Clusters(k=4, frames=100, seeds=1), one, seed=5).facts["frames"] == 120


def test_the_same_for_any_size_of_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [model(tmp_path, name, {1: values}) for name, values in (("before", features() + NOISE), ("after", NOISE))]
    first = analysed(Clusters(k=5, seeds=2), *models)
    monkeypatch.setattr(latents, "BLOCK", 31)
    again = analysed(Clusters(k=5, seeds=2), *models)
    assert first.facts == again.facts
    for name, table in first.tables.items():
        assert_frame_equal(table, again.tables[name])


def test_the_convolutions_are_a_layer_of_their_own(tmp_path: Path) -> None:
    import soundfile

    from w2v_abx.features.extraction import extract
    from w2v_abx.models.encoder import Encoder

    encoder, rng = Encoder.random(ARCHITECTURE), np.random.default_rng(0)
    files = {name: tmp_path / f"{name}.wav" for name in SPEECH.items.frame["#file"].unique()}
    for path in files.values():
        soundfile.write(path, rng.standard_normal(12_800) / 10, 16_000)
    store = extract(encoder, files, [0, 1], tmp_path / "features")
    beside = tmp_path / "convolutions"
    one = Model("before", store, lambda: encoder, extract=lambda other: extract(other, files, [0], beside))
    result = analysed(Clusters(k=3, seeds=1, convolutions=True), one, speech=replace(SPEECH, files=files))
    assert sorted(result.tables["agreement"]["layer"].unique()) == [CONVOLUTIONS, 0, 1]
    pairs = result.tables["moves"].select("model", "layer", "other", "other_layer").rows()
    assert pairs == [("before", -1, "before", 0), ("before", -1, "before", 1)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 1}, "k=1 must be a whole number from 2"),
        ({"k": [4, 1]}, "k=1 must be a whole number from 2"),
        ({"k": []}, r"k=\[\] must be a whole number from 2, or a list"),
        ({"k": "many"}, "k='many' must be a whole number from 2, or a list"),
        ({"methods": ["ward"]}, "methods=.* must be a list of some of kmeans, spherical"),
        ({"spaces": []}, "spaces=.* must be a list of some of raw, pca, umap"),
        ({"layers": [-1]}, "layers=-1 must be a whole number from 0"),
        ({"seeds": 0}, "seeds=0 must be a whole number from 1"),
        ({"frames": 1}, "frames=1 must be a whole number from 2, or null for all"),
        ({"last": "yes"}, "last='yes' must be true or false"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"analysis\.clusters\.{message}"):
        Clusters(**settings)


def test_inputs_that_cannot_be(tmp_path: Path) -> None:
    one = model(tmp_path, "before", {0: NOISE, 1: features()})
    with pytest.raises(InputError, match=r"analysis\.clusters\.layers=7: before has 0, 1"):
        analysed(Clusters(layers=[1, 7]), one)
    with pytest.raises(InputError, match=r"analysis\.clusters\.labels=tone: items have no such column"):
        Clusters(labels=["tone"]).check(SPEECH.items, ["before"])
    with pytest.raises(InputError, match=r"k=500 is more than the 240 different frames of before, layer 0"):
        analysed(Clusters(k=500), one)
    broken = features()
    broken[2, 3, 0] = np.nan
    with pytest.raises(InputError, match="after, layer 1: the features hold a NaN"):
        analysed(Clusters(k=4), model(tmp_path, "after", {1: broken}))
    with pytest.raises(InputError, match="constant, layer 1"):
        analysed(Clusters(k=4), model(tmp_path, "constant", {1: np.ones_like(broken)}))
    headed = model(tmp_path, "headed", {0: NOISE}, readouts={"phones": ctc()})
    with pytest.raises(InputError, match="the head phones of headed reads layer 1, which is not stored"):
        analysed(Clusters(k=4), headed)


def test_one_file_is_not_decoded(tmp_path: Path) -> None:
    alone = Items(SPEECH.items.frame.filter(pl.col("#file") == "f0"))
    one = model(tmp_path, "before", {1: features()})
    result = analysed(Clusters(k=3, labels=["#phone"], seeds=1), one, speech=replace(SPEECH, items=alone))
    assert "decoding" not in result.tables
    assert result.tables["agreement"]["frames"].to_list() == [NUMBERS.shape[1]]
