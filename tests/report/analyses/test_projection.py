"""Projections in the report, from results made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PathCollection

from w2v_abx.analysis.analysis import AnalysisResult
from w2v_abx.report.analyses.projection import render
from w2v_abx.report.section import Drawing, Section, Table
from w2v_abx.report.summary import Summary

MODELS = {"before": (0, 1), "after": (0, 1), "mfcc": (0,)}


def summary(folder: Path) -> Summary:
    return Summary(folder, {}, {}, "analyze", {}, [], None, "")


@pytest.fixture
def section(tmp_path: Path) -> Section:
    made = np.random.default_rng(0)
    places, shares, spreads = [], [], []
    for model, layers in MODELS.items():
        for layer in layers:
            key: dict[str, Any] = {"model": model, "layer": layer}
            for method in ("pca", "umap"):
                places += [
                    {**key, "method": method, "point": point, "x": x, "y": y}
                    for point, (x, y) in enumerate(made.standard_normal((6, 2)) * (3 if model == "after" else 1))
                ]
                shares.append({**key, "method": method, "label": "#phone", "share": 0.5, "chance": 0.25, "points": 6})
            shares.append({**key, "method": "all", "label": "#phone", "share": 0.6, "chance": 0.25, "points": 6})
            spreads.append({**key, "spread": 2.0, "shift": 0.5, "shown": 0.4})
    order = ["model", "method", "label", "layer", "share", "chance", "points"]
    tables = {
        "points": pl.DataFrame({"point": range(6), "#phone": ["a", "ŋ", "$x$", "a", "-", "б"]}),
        "coordinates": pl.DataFrame(places),
        "neighbours": pl.DataFrame(shares).select(order),
        "spreads": pl.DataFrame(spreads),
        "errors": pl.DataFrame(
            {
                "model": "after", "head": "phones", "predicted": "a",
                "outcome": ["right", "wrong", "-", "right", "-", "wrong"], "point": range(6),
            }
        ),
    }  # fmt: skip
    facts = {"level": "segments", "metric": "cosine", "labels": ["#phone"], "axes": [["before", "after"], ["mfcc"]]}
    AnalysisResult(facts, tables, ["Six."]).save(tmp_path / "analysis" / "projection")
    found = render(summary(tmp_path))
    assert found
    return found


def test_nothing_of_a_run_without_it(tmp_path: Path) -> None:
    assert render(summary(tmp_path)) is None


def test_the_table_first_with_each_model_at_the_last_layer(section: Section) -> None:
    table = section.parts[0]
    assert isinstance(table, Table)
    assert table.columns == ["label", "before", "after", "MFCC", "by chance"]
    assert table.rows == [["phone", "60.0", "60.0", "60.0", "25.0"]]
    assert "at layer 1" in table.note


def test_models_with_common_axes_have_equal_limits(section: Section) -> None:
    figures = [part for part in section.parts if isinstance(part, Drawing)]
    assert [figure.name for figure in figures] == ["projection_pca", "projection_umap"]
    axes = figures[0].figure().axes
    assert [one.get_title(loc="left") for one in axes[:3]] == ["before", "after", "MFCC"]
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert axes[0].get_xlim() != axes[2].get_xlim()
    assert [one.get_ylabel() for one in axes[::3]] == ["phone", "phones, by after"]
    for one in axes:
        shown = [c.get_offsets() for c in one.collections if isinstance(c, PathCollection)]
        assert sum(len(points) for points in shown) == 6
        (left, right), (low, high) = one.get_xlim(), one.get_ylim()
        assert right - left == pytest.approx(high - low)
        points = np.concatenate([np.asarray(points) for points in shown])
        assert np.all((points > (left, low)) & (points < (right, high)))


def test_the_legend_names_every_class(section: Section) -> None:
    figure = next(part for part in section.parts if isinstance(part, Drawing)).figure()
    legends = [one.get_legend() for one in figure.axes]
    names = [[text.get_text() for text in legend.get_texts()] for legend in legends if legend]
    assert names == [["$x$", "a", "ŋ", "б"], ["right", "wrong"]]


def test_where_the_page_lies_and_the_notes_are_said(section: Section) -> None:
    (text,) = [part for part in section.parts if isinstance(part, str)]
    assert text.startswith("analysis/projection/points.html")
    assert text.endswith("Six.")
