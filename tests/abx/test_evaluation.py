"""The evaluation loop on real files, against features that were extracted clip by clip."""

import json
import re
from pathlib import Path

import lightning
import numpy as np
import polars as pl
import pytest
import torch
from noises import noises
from small import ARCHITECTURE, extract_all, quiet_trainer

from w2v_abx import audio
from w2v_abx.abx import Items, Task, score
from w2v_abx.abx.evaluation import evaluate
from w2v_abx.abx.setting import AbxSetting
from w2v_abx.abx.speech import Speech, from_clips, from_item_file
from w2v_abx.corpora.folder import Folder
from w2v_abx.errors import InputError
from w2v_abx.features.batches import SpeechBatches
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.mfcc import Mfcc


@pytest.fixture
def trainer(tmp_path: Path) -> lightning.Trainer:
    return quiet_trainer(tmp_path)


@pytest.fixture
def speech(tmp_path: Path) -> Speech:
    return noises(tmp_path)


@pytest.mark.parametrize("extractor", [Encoder.random(ARCHITECTURE), Mfcc()], ids=["encoder", "mfcc"])
def test_equals_the_score_of_features_extracted_clip_by_clip(
    speech: Speech, trainer: lightning.Trainer, extractor: Encoder | Mfcc
) -> None:
    result = evaluate("model", extractor, speech, AbxSetting(batch_seconds=3.0), trainer)
    assert set(result.scores) == {(n, c) for n in range(extractor.n_layers) for c in ("within", "across")}
    for layer in range(extractor.n_layers):
        features = {}
        for name, path in speech.files.items():
            waveform = torch.from_numpy(audio.load(path))
            with torch.no_grad():
                (hidden,), _ = extractor(waveform[None], torch.tensor([len(waveform)]), [layer])
            features[name] = hidden[0]
        for condition in ("within", "across"):
            expected = score(features, speech.items, Task.preset(condition), frequency=extractor.frequency)
            assert result.scores[layer, condition].error() == pytest.approx(expected.error(), abs=1e-12)
            assert result.scores[layer, condition].delta.mean == pytest.approx(expected.delta.mean, rel=1e-3, abs=1e-6)


def test_saves_cells_and_summary(speech: Speech, trainer: lightning.Trainer, tmp_path: Path) -> None:
    result = evaluate("model", Mfcc(), speech, AbxSetting(speaker="across"), trainer)
    result.save(tmp_path / "abx", "mfcc")
    cells = pl.read_parquet(tmp_path / "abx" / "mfcc" / "cells.parquet")
    assert cells.columns[:2] == ["layer", "condition"]
    assert set(cells["condition"]) == {"across"}
    assert {"score", "size", "#phone_b", "speaker_x"} <= set(cells.columns)
    (row,) = result.summary("mfcc")["scores"]
    assert row["error"] == result.scores[0, "across"].error()
    assert row["triplets"] == cells["size"].sum()


def test_every_option_of_the_setting_reaches_the_scores(
    speech: Speech, trainer: lightning.Trainer, tmp_path: Path
) -> None:
    mfcc, options = Mfcc(), {"distance": "euclidean", "pooling": "mean", "deltas": 20, "max_size_group": 2}
    constraint = "all_different(#file)"
    setting = AbxSetting(
        speaker="across", context="any", constraints=[constraint], weighted=True, save_deltas=True, **options
    )
    result = evaluate("model", mfcc, speech, setting, trainer)
    features = extract_all(mfcc, speech.files, [0], 3.0, quiet_trainer(tmp_path))[0]
    task = Task.preset("across", "any", constraints=[constraint])
    expected = score(features, speech.items, task, frequency=mfcc.frequency, **options)
    assert result.scores[0, "across"].cells["distance_mean"].to_list() == pytest.approx(
        expected.cells["distance_mean"].to_list(), rel=1e-4
    )
    result.save(tmp_path / "abx", "mfcc")
    summary = json.loads((tmp_path / "abx" / "mfcc" / "summary.json").read_text())
    assert summary["scores"][0]["error"] == result.scores[0, "across"].error(weighted=True)
    assert (summary["pooling"], summary["constraints"], summary["weighted"]) == ("mean", [constraint], True)
    deltas = pl.read_parquet(tmp_path / "abx" / "mfcc" / "deltas.parquet")
    assert deltas.height == 20
    assert set(deltas["layer"]) == {0}
    pairs, speakers = (pl.read_csv(tmp_path / "abx" / "mfcc" / name) for name in ("pairs.csv", "speakers.csv"))
    assert pairs.select("condition", "#phone", "#phone_b").rows() == [("across", "a", "i"), ("across", "i", "a")]
    assert pairs["score"].mean() == pytest.approx(result.scores[0, "across"].error())
    assert speakers["speaker"].to_list() == ["ann", "bob"]
    ordered = AbxSetting(speaker="across", levels=["speaker", ["prev-phone", "next-phone"]])
    result = evaluate("model", mfcc, speech, ordered, quiet_trainer(tmp_path))
    assert result.error(0, "across") == result.scores[0, "across"].error(levels=ordered.levels)


TASKS = {
    "speaker": {"on": "speaker", "by": ["#phone"], "context": ["within", "any"]},
    "alike": {"on": "#phone", "speaker": "across", "context": "any", "constraints": ["all_different(#file)"]},
}


def test_conditions_are_those_of_the_task_and_of_others_beside_it() -> None:
    both = AbxSetting(context=["any", "within"], also=["speaker"], tasks=TASKS, levels=["speaker"])
    phone, context = "#phone", ["prev-phone", "next-phone"]
    assert both.conditions() == {
        "within": Task(phone, by=[*context, "speaker"]),
        "across": Task(phone, by=context, across=["speaker"]),
        "within_any": Task(phone, by=["speaker"]),
        "across_any": Task(phone, across=["speaker"]),
        "speaker": Task("speaker", by=[*context, phone]),
        "speaker_any": Task("speaker", by=[phone]),
    }
    assert [*both.main] == [*both.conditions()][:4]
    assert (both.levels_of("across"), both.levels_of("speaker")) == (["speaker"], None)
    # In place of the main task, whatever that is; and across is its name as any task's.
    constraint = TASKS["alike"]["constraints"]
    instead = AbxSetting(on="word", by=["sex"], task="alike", also="speaker", tasks=TASKS)
    assert [*instead.conditions()] == ["across", "speaker", "speaker_any"]
    assert instead.main == {"across": Task(phone, across=["speaker"], constraints=constraint)}
    assert [*AbxSetting(task="speaker", tasks=TASKS).main] == ["speaker", "speaker_any"]
    assert [*AbxSetting(also=["alike"], tasks=TASKS).conditions()] == ["within", "across", "alike_across"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"task": "tone"}, "abx.task='tone' must be one of speaker, alike, or null for abx.on, by and across"),
        ({"also": ["tone"]}, "abx.also='tone' must be one of speaker, alike"),
        ({"also": ["a"], "tasks": {"a": {"by": ["x"]}}}, "abx.tasks.a={'by': ['x']} must be a group with on and some"),
        (
            {"also": ["a"], "tasks": {"a": {"on": "x", "to": "y"}}},
            "a group with on and some of across, by, constraints",
        ),
        ({"also": ["a"], "tasks": {"a": {"on": "x", "context": "no"}}}, "abx.tasks.a.context='no' must be one of"),
        ({"also": ["a"], "tasks": {"a": {"on": "x", "by": ["x"]}}}, "names the column 'x' twice"),
        ({"context": []}, "abx.context is empty; give within, any or [within, any]"),
        ({"slicing": "fast"}, "abx.slicing='fast' must be one of exact, librilight"),
    ],
)
def test_tasks_that_cannot_be_are_named(setting: dict, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        AbxSetting(**{"tasks": TASKS, **setting})


def test_tasks_beside_the_main_one_are_scored_and_saved_apart(
    speech: Speech, trainer: lightning.Trainer, tmp_path: Path
) -> None:
    setting = AbxSetting(speaker="across", context="any", also=["speaker"], tasks=TASKS, slicing="librilight")
    result = evaluate("model", Mfcc(), speech, setting, trainer)
    features = extract_all(Mfcc(), speech.files, [0], 3.0, quiet_trainer(tmp_path))[0]
    for condition, task in setting.conditions().items():
        options = {"frequency": Mfcc().frequency, "slicing": "librilight"}
        assert result.error(0, condition) == pytest.approx(score(features, speech.items, task, **options).error())
    result.save(tmp_path / "abx", "mfcc")
    summary = json.loads((tmp_path / "abx" / "mfcc" / "summary.json").read_text())
    assert [summary[key] for key in ("on", "context", "slicing", "also")] == [
        "#phone", "any", "librilight", ["speaker"],
    ]  # fmt: skip
    assert [(row["condition"], row["on"], row["main"]) for row in summary["scores"]] == [
        ("across", "#phone", True),
        ("speaker", "speaker", False),
        ("speaker_any", "speaker", False),
    ]
    saved = {path.name: pl.read_csv(path) for path in (tmp_path / "abx" / "mfcc").glob("*.csv")}
    assert saved.keys() == {"pairs.csv", "pairs_speaker.csv", "speakers.csv"}
    assert set(saved["pairs.csv"]["condition"]) == {"across"}
    assert saved["pairs_speaker.csv"].select("condition", "speaker", "speaker_b").rows()[0] == ("speaker", "ann", "bob")
    assert set(saved["speakers.csv"]["condition"]) == {"across", "speaker", "speaker_any"}


def test_levels_and_weights_exclude_each_other() -> None:
    with pytest.raises(InputError, match=r"abx\.weighted and abx\.levels exclude each other"):
        AbxSetting(weighted=True, levels=["speaker"])


def test_the_extractor_keeps_its_mode(speech: Speech, trainer: lightning.Trainer) -> None:
    encoder = Encoder.random(ARCHITECTURE).train()
    frozen = next(part for part in encoder.modules() if part is not encoder)
    frozen.training = False
    evaluate("model", encoder, speech, AbxSetting(layers=[0], speaker="across"), trainer)
    assert encoder.training
    assert not frozen.training


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"speaker": "between"}, "abx.speaker='between' must be one of within, across"),
        ({"context": "some"}, "abx.context='some' must be one of within, any"),
        ({"speaker": []}, "abx.speaker is empty"),
        ({"batch_seconds": 0}, "abx.batch_seconds=0 must be a number above 0"),
        ({"max_size_group": 1}, "abx.max_size_group=1 must be a whole number from 2"),
        ({"max_x_across": 0}, "abx.max_x_across=0 must be a whole number from 1"),
        ({"deltas": 0}, "abx.deltas=0 must be a whole number from 1"),
    ],
)
def test_settings_out_of_range_are_named(setting: dict, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        AbxSetting(**setting)


def test_a_layer_that_is_not_there(speech: Speech, trainer: lightning.Trainer) -> None:
    with pytest.raises(InputError, match="abx.layers=1 must be one of 0"):
        evaluate("model", Mfcc(), speech, AbxSetting(layers=[1]), trainer)


def test_item_file_over_a_folder(speech: Speech, tmp_path: Path) -> None:
    speech.items.write(tmp_path / "x.item")
    read = from_item_file(tmp_path / "x.item", tmp_path)
    assert read.files == speech.files
    assert read.items.frame.equals(speech.items.frame)
    speech.files["ann0"].unlink()
    with pytest.raises(InputError, match="no audio below .* for 1 files, the first being 'ann0'"):
        from_item_file(tmp_path / "x.item", tmp_path)
    with pytest.raises(InputError, match=r"abx\.items is missing"):
        from_item_file(None, tmp_path)
    audio.save(tmp_path / "ann1.wav", np.full(8000, 0.1, np.float32) * np.sin(np.arange(8000, dtype=np.float32)))
    with pytest.raises(InputError, match="share a name"):
        from_item_file(tmp_path / "x.item", tmp_path)


def test_clips_as_items(shared_data: Path) -> None:
    pattern = r"^(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<take>\d+)$"
    digits = Folder("fsdd", shared_data / "fsdd", name_pattern=pattern)
    speech = from_clips(digits, ["digit", "speaker"])
    assert len(speech.items) == len(speech.files) == 1500
    assert set(speech.items.frame["digit"]) == set("0123456789")
    assert speech.items.frame["speaker"].n_unique() == 3
    with pytest.raises(InputError, match="no label 'sex' for abx.speech.columns"):
        from_clips(digits, ["sex"])


def test_items_without_a_frame_are_listed(speech: Speech, trainer: lightning.Trainer, tmp_path: Path) -> None:
    frame = speech.items.frame.with_row_index().with_columns(
        offset=pl.when(pl.col("index") == 0).then(pl.lit("0.1")).otherwise("offset")
    )
    short = Speech(Items(frame.drop("index")), speech.files)
    with pytest.warns(UserWarning, match="1 of 12 items are left out"):
        result = evaluate("model", Encoder.random(ARCHITECTURE), short, AbxSetting(), trainer)
    result.save(tmp_path / "abx", "model")
    listed = pl.read_csv(tmp_path / "abx" / "model" / "skipped.csv")
    assert listed["#file"].to_list() == [speech.items.frame["#file"][0]]
    assert result.summary("model")["scores"][0]["skipped_items"] == 1


def test_bf16_features_are_scored_in_float32(speech: Speech, tmp_path: Path) -> None:
    encoder, setting = Encoder.random(ARCHITECTURE), AbxSetting(layers=[1], speaker="across", batch_seconds=3.0)
    result = evaluate("model", encoder, speech, setting, quiet_trainer(tmp_path, precision="bf16-true"))
    features = extract_all(encoder, speech.files, [1], 3.0, quiet_trainer(tmp_path, precision="bf16-true"))[1]
    assert {feature.dtype for feature in features.values()} == {torch.bfloat16}
    whole = {name: feature.float() for name, feature in features.items()}
    expected = score(whole, speech.items, Task.preset("across"), frequency=encoder.frequency)
    assert result.scores[1, "across"].cells.equals(expected.cells)


def test_extracts_every_layer_of_every_file_in_one_pass(speech: Speech, trainer: lightning.Trainer) -> None:
    encoder = Encoder.random(ARCHITECTURE).train()
    features = extract_all(encoder, speech.files, [1, 0], 3.0, trainer)
    assert encoder.training
    assert list(features) == [1, 0]
    encoder.eval()
    for name, path in speech.files.items():
        waveform = torch.from_numpy(audio.load(path))
        with torch.no_grad():
            hidden, _ = encoder(waveform[None], torch.tensor([len(waveform)]), [1, 0])
        for layer, expected in zip([1, 0], hidden, strict=True):
            torch.testing.assert_close(features[layer][name], expected[0], rtol=1e-3, atol=1e-4)
    features[1]["ann0"].add_(1)  # the caller's own, to change as it likes


def test_processes_that_are_spawned_are_refused(speech: Speech, tmp_path: Path) -> None:
    spawning = quiet_trainer(tmp_path, devices=2, strategy="ddp_spawn")
    with pytest.raises(InputError, match="trainer.strategy=ddp or trainer.devices=1"):
        evaluate("model", Mfcc(), speech, AbxSetting(), spawning)


def test_a_file_that_cannot_be_read_is_named(speech: Speech, trainer: lightning.Trainer) -> None:
    path = speech.files["bob3"]
    path.write_bytes(path.read_bytes()[:3_000])  # its header is whole
    with pytest.raises(InputError, match="bob3.flac: breaks off"):
        evaluate("model", Mfcc(), speech, AbxSetting(), trainer)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_ranks_share_the_batches_of_one_process(speech: Speech, size: int) -> None:
    whole = SpeechBatches(speech.files, 3.0).batches
    shares = [SpeechBatches(speech.files, 3.0, rank, size) for rank in range(size)]
    assert sorted(batch for share in shares for batch in share.batches if batch) == sorted(whole)
    assert all(len(list(share)) == len(share) >= 1 for share in shares)
