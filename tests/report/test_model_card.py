import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from w2v_abx.models.encoder import Encoder
from w2v_abx.report import summarize, write_model_card
from w2v_abx.report.section import p_value
from w2v_abx.statistics.paired import compare

ARCHITECTURE = {"model_type": "wav2vec2", "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    Encoder.random({**ARCHITECTURE, "num_attention_heads": 2, "num_conv_pos_embeddings": 16}).save(folder / "encoder")
    facts = json.loads((folder / "run.json").read_text()) | {"command": "w2v-abx train experiment=demo seed=3"}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def test_the_card_gives_command_curve_and_margins(folder: Path) -> None:
    summary = summarize(folder)
    card = write_model_card(summary, folder / "encoder").read_text()
    assert "w2v-abx train experiment=demo seed=3" in card
    assert (folder / "encoder" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "![Training loss by step](loss.png)" in card
    parameters = sum(p.numel() for p in Encoder.load(folder / "encoder").model.parameters())
    assert f"{parameters:,} parameters" in card

    after = summary.models["after"].select(2, "across")
    for tag, layer in (("mfcc", 0), ("random", 2), ("before", 2)):
        expected = compare(summary.models[tag].select(layer, "across"), after, seed=3)
        low, high = 100 * expected.ci_low, 100 * expected.ci_high
        p = p_value(expected.p)  # which agrees with the interval: not corrected
        assert f"{100 * expected.difference:+.1f} [{low:+.1f}, {high:+.1f}], {p} |" in card
    assert "| labels | valid | mAP | 0.606 |" in card
    tables = card.split("## ABX error ")[1:]
    assert [table.split(" (%)")[0] for table in tables] == ["across speakers", "within speaker"]
    assert all(f"| {layer} | " in table for table in tables for layer in range(4))


def test_the_card_does_without_a_curve(folder: Path) -> None:
    (folder / "metrics.csv").unlink()
    card = write_model_card(summarize(folder), folder / "encoder").read_text()
    assert "loss.png" not in card
    assert not (folder / "encoder" / "loss.png").exists()


def test_a_baseline_is_compared_on_the_cells_that_both_have(folder: Path) -> None:
    for tag, phone in (("mfcc", "p"), ("random", "t")):
        path = folder / "abx" / tag / "cells.parquet"
        pl.read_parquet(path).filter(pl.col("#phone") != phone).write_parquet(path)
    summary = summarize(folder)
    card = write_model_card(summary, folder / "encoder").read_text()
    after = summary.models["after"].select(2, "across").filter(pl.col("#phone") != "p")
    expected = compare(summary.models["mfcc"].select(0, "across"), after, seed=3)
    assert f"{100 * expected.difference:+.1f} [{100 * expected.ci_low:+.1f}" in card
