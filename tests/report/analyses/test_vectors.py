"""The section of phonological vectors."""

from pathlib import Path
from types import SimpleNamespace

import polars as pl

from w2v_abx.analysis.analysis import AnalysisResult
from w2v_abx.report.analyses.vectors import SHOWN, render
from w2v_abx.report.section import Drawing, Section, Table

FEATURES = ("all", "voi", *(f"f{n}" for n in range(SHOWN)))
DIFFERENCES = {"model": "after", "layer": 1, "feature": "all", "measure": "cosine", "difference": 0.25, "reach": None}


def section(folder: Path, models: tuple[str, ...]) -> Section:
    rows = [
        {
            "model": model,
            "layer": layer,
            "feature": feature,
            "quadruples": 3 if feature == "voi" else 1,
            "phones": 6,
            "cosine": 0.5,
            "accuracy": 0.25 * (1 + layer),
            "reciprocal_rank": 0.4,
            "random_cosine": 0.01,
            "random_accuracy": 0.1,
            "neighbour_accuracy": 0.2,
            "cosine_low": 0.4,
            "cosine_high": 0.6,
            "accuracy_low": None,
            "accuracy_high": None,
        }
        for model in models
        for layer in range(1 if model == "mfcc" else 3)
        for feature in FEATURES
    ]
    scores = pl.DataFrame(rows, schema_overrides={"accuracy_low": pl.Float64, "accuracy_high": pl.Float64})
    types = {**dict.fromkeys(DIFFERENCES, pl.String), "layer": pl.Int64, "difference": pl.Float64, "reach": pl.Float64}
    changes = pl.DataFrame([DIFFERENCES] if "after" in models else [], schema=types)
    tables = {"scores": scores, "differences": changes}
    AnalysisResult({"quadruples": 9, "chance": 1 / 20}, tables, ["900 items."]).save(folder / "analysis" / "vectors")
    made = render(SimpleNamespace(folder=folder))  # type: ignore[arg-type]
    assert made is not None
    return made


def test_shows_the_best_layer_the_figures_the_change_and_all_numbers(tmp_path: Path) -> None:
    made = section(tmp_path, ("before", "after", "mfcc"))
    best, both, contrasts, changes, everything = made.parts
    assert isinstance(best, Table)
    assert [row[:2] for row in best.rows] == [["before", "2"], ["after", "2"], ["MFCC", "0"]]
    assert best.rows[0][2:] == ["all", "1 of 6 phones", "75.0", "10.0", "20.0", "0.50 [0.40, 0.60]", "0.01", "0.40"]
    assert best.note.endswith("by chance 5.0 %. 900 items.")
    assert isinstance(both, Drawing)
    assert [axes.get_title("left") for axes in both.figure().axes] == ["accuracy", "cosine of differences"]
    assert isinstance(contrasts, Drawing)
    titles = [axes.get_title("left") for axes in contrasts.figure().axes]
    assert titles == ["voi, n = 3", *(f"f{n}, n = 1" for n in range(SHOWN - 1))]
    assert isinstance(changes, Table)
    assert changes.rows == [["after", "1", "cosine", "+0.250", "-"]]
    assert isinstance(everything, Table)
    assert len(everything.rows) == 7 * len(FEATURES)


def test_one_model_has_no_change(tmp_path: Path) -> None:
    assert [type(part) for part in section(tmp_path, ("before",)).parts] == [Table, Drawing, Drawing, Table]


def test_a_run_without_vectors_has_no_such_section(tmp_path: Path) -> None:
    assert render(SimpleNamespace(folder=tmp_path)) is None  # type: ignore[arg-type]
