"""The sections of similarity and normalisation, from results made by hand."""

from pathlib import Path

import polars as pl
import pytest

from w2v_abx.analysis.analysis import AnalysisResult
from w2v_abx.report import summarize
from w2v_abx.report.analyses import normalisation, similarity
from w2v_abx.report.section import Drawing, Section, Table

TASKS = {"before": [], "tones": ["tone"], "both": ["tone", "sex"], "mfcc": [], "random": []}
LABELS = ("tone", "sex")


def layers(model: str) -> range:
    return range(1 if model == "mfcc" else 3)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [
        {"model": model, "layer": layer, "label": label, "measure": measure, "components": 3}
        | {"similarity": 0.5, "floor": 0.3, "held_out": None if measure == "cka" else 0.1 * layer + 0.2}
        | {"low": 0.1, "high": 0.6, "held_out_floor": 0.01, "split_half": None}
        for model in TASKS
        for layer in layers(model)
        for label in LABELS
        for measure in ("svcca", "cka")
    ]
    table = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("split_half").cast(pl.Float64))
    models = table.filter(pl.col("model").is_in(["tones", "random"])).with_columns(label=pl.lit("before"))
    facts = {
        "tasks": TASKS,
        "baselines": ["mfcc", "random"],
        "reference": "before",
        "labels": {label: {} for label in LABELS},
    }
    made = AnalysisResult(facts, {"labels": table, "models": models}, ["Points are 9 of 9."])
    made.save(tmp_path / "analysis" / "similarity")
    return tmp_path


def drawings(section: Section | None) -> dict[str, Drawing]:
    assert section is not None
    return {part.name: part for part in section.parts if isinstance(part, Drawing)}


def shown(drawing: Drawing) -> dict[str, set[str]]:
    return {
        axes.get_title(loc="left"): {
            str(line.get_label()) for line in axes.get_lines() if not str(line.get_label()).startswith("_")
        }
        for axes in drawing.figure().axes
        if axes.get_title(loc="left")
    }


def test_the_three_figures_of_the_study(run: Path) -> None:
    found = drawings(similarity.render(summarize(run)))
    assert shown(found["similarity_untrained"]) == {"before": set(LABELS), "random weights": set(LABELS)}
    untrained = {"before", "MFCC", "random weights"}
    assert shown(found["similarity_target"]) == {
        "tone": {*untrained, "tones", "both"},
        "sex": {*untrained, "both"},
    }
    assert shown(found["similarity_other"]) == {"sex": {*untrained, "tones"}}
    assert shown(found["similarity_between"]) == {
        "SVCCA": {"tones", "random weights"},
        "linear CKA": {"tones", "random weights"},
    }
    assert "similarity_models" not in found


def test_models_whose_tasks_are_not_known_are_shown_together(run: Path) -> None:
    path = run / "analysis" / "similarity"
    result = AnalysisResult(
        {
            "tasks": {name: [] for name in TASKS},
            "baselines": ["mfcc", "random"],
            "reference": "before",
            "labels": {label: {} for label in LABELS},
        },
        {name: pl.read_parquet(path / f"{name}.parquet") for name in ("labels", "models")},
    )
    result.save(path)
    found = drawings(similarity.render(summarize(run)))
    assert shown(found["similarity_models"])["tone"] == {"before", "tones", "both", "MFCC", "random weights"}
    assert not {"similarity_target", "similarity_other"} & set(found)


def test_the_best_layer_comes_first_and_all_numbers_are_folded(run: Path) -> None:
    section = similarity.render(summarize(run))
    assert section is not None
    best = section.terminal[0]
    assert isinstance(best, Table)
    assert best.rows[0] == ["tone", "0.40 (2)", "0.40 (2)", "0.40 (2)", "0.20 (0)", "0.40 (2)", "0.01"]
    folded = [part for part in section.parts if isinstance(part, Table) and part.folded]
    assert [len(table.rows) for table in folded] == [2 * 2 * 13, 2 * 2 * 6]
    assert "split half" not in folded[0].columns  # of which there is none


def test_what_was_not_analysed_has_no_section(tmp_path: Path) -> None:
    assert similarity.render(summarize(tmp_path)) is None
    assert normalisation.render(summarize(tmp_path)) is None


def test_normalisation_marks_what_was_taught(tmp_path: Path) -> None:
    changes = pl.DataFrame(
        [
            {"model": model, "layer": layer, "label": label, "measure": measure, "first": 0.2, "second": 0.3}
            | {"difference": 0.1 * layer, "low": 0.05 if label == "tone" else None, "high": 0.5}
            for model in ("tones", "random")
            for layer in (0, 1)
            for label in LABELS
            for measure in ("similarity", "accuracy")
        ]
    )
    directions = pl.DataFrame(
        [
            {"model": m, "layer": layer, "label": "#phone", "overlap": 0.2, "low": 0.1, "high": 0.3, "floor": 0.25}
            for m in ("before", "tones")
            for layer in (0, 1)
        ]
    )
    collapsed = pl.DataFrame(
        [
            {"model": "tones", "layer": 1, "condition": "across/any", "directions": 4.0, "collapsed": "speakers"}
            | {"first": 0.2, "second": 0.15, "difference": -0.05, "low": -0.08, "high": -0.02, "p": 0.01}
        ]
    )
    facts = {"tasks": {"before": [], "tones": ["tone"], "random": []}, "baselines": ["random"], "reference": "before"}
    tables = {"changes": changes, "directions": directions, "collapsed": collapsed}
    AnalysisResult({**facts, "said": "#phone"}, tables, ["Said."]).save(tmp_path / "analysis" / "normalisation")
    section = normalisation.render(summarize(tmp_path))
    last = section.parts[0] if section else None
    assert isinstance(last, Table)
    assert last.rows[0] == ["tone: SVCCA, held out", "+10.0 [+5.0, +50.0] *"]
    assert last.rows[1] == ["sex: SVCCA, held out", "+10.0"]
    found = drawings(section)
    assert shown(found["normalisation_similarity"]) == {"tone": {"tones"}, "sex": {"tones"}}
    assert shown(found["normalisation_directions"]) == {"speaker and phone": {"before", "tones"}}
