"""Saliency in the report, from a result made by hand."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from w2v_abx.analysis.analysis import AnalysisResult
from w2v_abx.report.analyses.saliency import render
from w2v_abx.report.section import Drawing, Section, Table
from w2v_abx.report.summary import Summary

FRAMES, BANDS = 30, 4


def summary(folder: Path) -> Summary:
    return Summary(folder, {}, {}, "analyze", {}, [], None, "")


@pytest.fixture
def section(tmp_path: Path) -> Section:
    made = np.random.default_rng(0)
    rows, bands, frames = [], [], []
    for model in ("before", "after"):
        for decision, at in enumerate((None, 0.2)):
            key = {"decision": decision, "model": model}
            rows.append(
                {
                    **key, "reader": "after", "file": "文1", "onset": 0.1, "offset": 0.25, "at": at, "class": "ŋ",
                    "start": np.log(0.25), "end": np.log(0.5), "gap": 0.001, "loudness": 0.3,
                }
            )  # fmt: skip
            bands += [
                {**key, "time": frame / 100, "band": band, "value": made.normal(), "level": -10.0 * band}
                for frame in range(FRAMES)
                for band in range(BANDS)
            ]
            frames += [{**key, "time": (frame + 0.5) / 50, "attention": 1 / 15} for frame in range(15)]
    sanity = [
        {"decision": decision, "model": "after", "random": what, "signed": value, "unsigned": 0.5, "attention": 1.0}
        for decision, value in ((0, 0.1), (1, 0.3))
        for what in ("head", "all weights")
    ]
    tables = {
        "decisions": pl.DataFrame(rows, schema_overrides={"at": pl.Float64}),
        "bands": pl.DataFrame(bands),
        "frames": pl.DataFrame(frames),
        "sanity": pl.DataFrame(sanity),
        "edges": pl.DataFrame({"band": range(4), "low": [0.0, 500, 1500, 4000], "high": [500.0, 1500, 4000, 8000]}),
    }
    AnalysisResult({"of": "after", "head": "phones"}, tables, ["Two noises."]).save(tmp_path / "analysis" / "saliency")
    found = render(summary(tmp_path))
    assert found
    return found


def test_nothing_of_a_run_without_it(tmp_path: Path) -> None:
    assert render(summary(tmp_path)) is None


def test_the_check_comes_first_as_means_over_decisions(section: Section) -> None:
    table = section.parts[0]
    assert isinstance(table, Table)
    assert table.rows == [["head", "0.20", "0.50", "1.00"], ["all weights", "0.20", "0.50", "1.00"]]
    assert section.terminal == [table]


def test_each_decision_is_drawn_in_both_models_on_one_scale(section: Section) -> None:
    figures = [part for part in section.parts if isinstance(part, Drawing)]
    assert [figure.name for figure in figures] == ["saliency_0", "saliency_1"]
    for drawing, marks in zip(figures, (2, 1), strict=True):
        axes = drawing.figure().axes
        assert [one.get_title(loc="left") for one in axes[:2]] == ["before: p = 0.50", "after: p = 0.50"]
        assert axes[0].get_ylim() == axes[1].get_ylim()
        level, colours = (image.get_array() for image in axes[0].images)
        assert level is not None
        assert level.shape == (BANDS, FRAMES)
        assert colours is not None
        assert colours.shape == (BANDS, FRAMES, 4)
        dotted = [line for line in axes[0].get_lines() if line.get_linestyle() == ":"]
        assert len(dotted) == marks  # the item's ends, or the frame
    assert "0.10 to 0.25 s" in figures[0].text
    assert "0.20 s" in figures[1].text


def test_numbers_of_decisions_are_folded(section: Section) -> None:
    table = section.parts[-1]
    assert isinstance(table, Table)
    assert table.folded
    assert len(table.rows) == 4
    assert table.rows[0][6:9] == ["0.500", "0.250", "+0.69"]
