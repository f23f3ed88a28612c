"""The section of an analysis that w2v-abx does not ship."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl

from w2v_abx.analysis.analysis import AnalysisResult
from w2v_abx.report.analyses.other import DRAWN, MOST, render
from w2v_abx.report.section import Table


def test_tables_and_notes_are_shown_as_they_are(tmp_path: Path) -> None:
    summary: Any = SimpleNamespace(folder=tmp_path)
    assert render(summary) is None
    table = pl.DataFrame({"model": ["mfcc"] * (MOST + 1), "norm": [0.123456, None, *[1.0] * (MOST - 1)]})
    AnalysisResult({}, {"norms": table}, ["A note."]).save(tmp_path / "analysis" / "mine")
    AnalysisResult({}, {}).save(tmp_path / "analysis" / next(iter(DRAWN)))  # has a module of its own

    (section,) = render(summary) or []
    shown, note = section.parts
    assert isinstance(shown, Table)
    assert (section.title, shown.title, note) == ("Mine", "mine: norms", "A note.")
    assert list(shown.rows[:2]) == [["MFCC", "0.1235"], ["MFCC", "-"]]
    assert len(shown.rows) == MOST
    assert f"{MOST} of {MOST + 1}" in shown.note


def test_each_analysis_that_is_drawn_has_a_module() -> None:
    import w2v_abx.report.analyses

    (folder,) = w2v_abx.report.analyses.__path__
    assert {path.stem for path in Path(folder).glob("*.py")} - {"__init__", "alluvial", "figures", "other"} == DRAWN
