"""The section of linear probes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from w2v_abx.analysis.analysis import AnalysisResult
from w2v_abx.report.analyses.probe import render
from w2v_abx.report.section import Drawing, Section, Table

ROW = {
    "layer": 0,
    "label": "#phone",
    "accuracy": 0.4,
    "recall": 0.3,
    "accuracy_low": 0.35,
    "accuracy_high": 0.45,
    "recall_low": None,
    "recall_high": None,
    "control": 0.1,
    "control_low": 0.05,
    "control_high": 0.15,
    "selectivity": 0.3,
    "selectivity_low": 0.2,
    "selectivity_high": 0.4,
}
SPEAKERS = {"control": None, "control_low": None, "control_high": None}
SPEAKERS |= {"selectivity": None, "selectivity_low": None, "selectivity_high": None}


@pytest.fixture
def rows() -> list[dict]:
    made = [
        ROW | {"model": model, "layer": layer, "accuracy": accuracy} | more
        for model, layer, accuracy in (("before", 1, 0.4), ("before", 2, 0.44), ("before", 3, 0.44), ("mfcc", 0, 0.38))
        for more in (dict[str, Any](), {"label": "speaker", **SPEAKERS})
    ]
    return made


def section(folder: Path, rows: list[dict]) -> Section:
    facts = {
        "labels": {"#phone": {"chance": 0.05, "held_out": "speaker"}, "speaker": {"chance": 0.1, "held_out": "file"}}
    }
    scores = pl.DataFrame(rows, schema_overrides={"control": pl.Float64, "recall_low": pl.Float64})
    AnalysisResult(facts, {"scores": scores}, ["900 items."]).save(folder / "analysis" / "probe")
    made = render(SimpleNamespace(folder=folder))  # type: ignore[arg-type]
    assert made is not None
    return made


def test_shows_the_best_layer_the_figures_and_all_numbers(tmp_path: Path, rows: list[dict]) -> None:
    made = section(tmp_path, rows)
    best, accuracy, selectivity, everything = made.parts
    assert isinstance(best, Table)
    assert [row[:4] for row in best.rows] == [
        ["phone", "before", "2", "44.0 [35.0, 45.0]"],
        ["phone", "MFCC", "0", "38.0 [35.0, 45.0]"],
        ["speaker", "before", "2", "44.0 [35.0, 45.0]"],
        ["speaker", "MFCC", "0", "38.0 [35.0, 45.0]"],
    ]
    assert best.rows[0][4:] == ["5.0", "30.0", "10.0", "+30.0"]
    assert best.rows[2][4:] == ["10.0", "30.0", "-", "-"]
    assert best.note == "900 items."
    assert isinstance(everything, Table)
    assert (len(everything.rows), everything.folded) == (8, "Numbers of all probes")
    assert isinstance(accuracy, Drawing)
    assert isinstance(selectivity, Drawing)
    assert "files or speakers" in accuracy.text
    figure = accuracy.figure()
    assert [axes.get_title("left") for axes in figure.axes[:2]] == ["phone", "speaker"]
    assert [axes.get_title("left") for axes in selectivity.figure().axes] == ["phone"]


def test_no_control_task_has_no_figure_of_it(tmp_path: Path, rows: list[dict]) -> None:
    made = section(tmp_path, [row | SPEAKERS for row in rows])
    assert [type(part) for part in made.parts] == [Table, Drawing, Table]


def test_a_run_without_probes_has_no_such_section(tmp_path: Path) -> None:
    assert render(SimpleNamespace(folder=tmp_path)) is None  # type: ignore[arg-type]
