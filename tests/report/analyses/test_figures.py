"""What the figures of analyses share."""

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from w2v_abx.report.analyses.figures import heat_map, layer_panels, model_colours
from w2v_abx.report.section import COLOURS

MODELS = ("before", "tones", "sex", "mfcc", "random")


@pytest.fixture
def table() -> pl.DataFrame:
    rows = [
        {
            "model": model,
            "layer": layer,
            "label": label,
            "score": 0.1 * layer + 0.2,
            "low": 0.1,
            "high": 0.9,
            "by": 0.05,
        }
        for label in ("#phone", "tone")
        for model in MODELS
        for layer in range(1 if model == "mfcc" else 4)
    ]
    return pl.DataFrame(rows)


def test_each_model_has_a_colour_of_its_own() -> None:
    colours = model_colours([*MODELS, "tones", "a", "b"])
    assert len(set(colours.values())) == len(colours) == 7
    assert {name: colours[name] for name in ("before", "mfcc", "random")} == {
        name: COLOURS[name] for name in ("before", "mfcc", "random")
    }


def test_colours_begin_again_where_there_are_more_models() -> None:
    assert all(model_colours(map(str, range(20))).values())


def test_a_panel_for_each_label_and_a_line_for_each_model(table: pl.DataFrame) -> None:
    figure = layer_panels("x", "", table, value="score", axis="R", interval=("low", "high"), floor="by").figure()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["phone", "tone"]
    lines = {line.get_label(): line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-"}
    assert list(lines) == ["before", "tones", "sex", "MFCC", "random weights"]
    np.testing.assert_allclose(lines["tones"].get_ydata(), [0.2, 0.3, 0.4, 0.5])
    assert to_hex(str(lines["before"].get_color())) == COLOURS["before"].lower()
    np.testing.assert_allclose(lines["MFCC"].get_ydata(), [0.2, 0.2])  # a horizontal line, whatever the layers


def test_what_is_not_there_leaves_a_gap(table: pl.DataFrame) -> None:
    missing = table.with_columns(score=pl.when(layer=2).then(None).otherwise("score"))
    line = layer_panels("x", "", missing, value="score", axis="R").figure().axes[0].get_lines()[0]
    assert np.isnan(np.asarray(line.get_ydata(), dtype=float)).tolist() == [False, False, True, False]


def test_a_heat_map_names_its_rows_and_columns() -> None:
    figure = Figure()
    axes = figure.subplots()
    heat_map(axes, np.array([[0.0, np.nan, 1.0], [1.0, 2.0, 3.0]]), ["a", "b"], ["x", "y", "z"], legend="share")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["x", "y", "z"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
