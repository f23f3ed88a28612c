"""The section of coverage, from results made by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from w2v_abx.analysis.analysis import AnalysisResult
from w2v_abx.report.analyses.coverage import BOTH, MEASURES, PAIRS, render
from w2v_abx.report.section import Drawing, Section, Table

STATISTICS = [*(name for pair in PAIRS.values() for name in pair), *BOTH.values(), "difference"]
EQUIVALENCE = {"difference": 0.1, "low": -0.3, "high": 0.5, "low_90": -0.25, "high_90": 0.4, "margin": 0.2, "p": 0.3,
               "verdict": "unclear", "symbols_needed": 120}  # fmt: skip
WITHIN = {"per_doubling": 0.05, "low": 0.02, "high": 0.08, "symbols": 3}


def saved(folder: Path, verdict: str = "unclear", runs: int = 2, layers: int = 2, low: float = 0.1) -> Any:
    rows = [
        {"model": model, "layer": layer, "measure": measure, "statistic": name, "value": 0.4 + 0.1 * layer,
         **({} if name.startswith("rho") else {"low": low, "high": 0.7, "low_speakers": 0.3, "high_speakers": 0.5})}
        for model in ["before", "mfcc"][:layers]
        for layer in range(layers if model == "before" else 1)
        for measure in MEASURES
        for name in STATISTICS
    ]  # fmt: skip
    names = [f"run {n}" for n in range(runs)]
    symbols = [
        {"run": run, "symbol": symbol, "recall": 0.3 * n, "held_out": 20, "trained": 10**n, "concentration": 0.2 * n,
         "frames": 90}
        for run in names
        for n, symbol in enumerate("ptk", 1)
    ]  # fmt: skip
    alone = [{"run": run, **dict.fromkeys(STATISTICS, 0.25)} for run in names]
    facts = {"layer": layers - 1, "measure": "share", "runs": names, "symbols": 3,
             "equivalence": {**EQUIVALENCE, "verdict": verdict},
             "within_symbols": WITHIN if runs > 1 else None}  # fmt: skip
    tables = {"coverage": pl.DataFrame(rows), "symbols": pl.DataFrame(symbols), "runs": pl.DataFrame(alone)}
    AnalysisResult(facts, tables, ["A note."]).save(folder / "analysis" / "coverage")
    return SimpleNamespace(folder=folder)


def section(*given: Any, **settings: Any) -> Section:
    found = render(saved(*given, **settings))
    assert isinstance(found, Section)
    return found


@pytest.mark.parametrize(
    ("verdict", "begins"),
    [
        ("alike", "Both weigh alike"),
        ("count", "Counts in training weigh more"),
        ("concentration", "Concentration in clusters of the model before weighs more"),
        ("unclear", "It cannot be told which weighs more"),
    ],
)
def test_the_answer_comes_first(tmp_path: Path, verdict: str, begins: str) -> None:
    found = section(tmp_path, verdict)
    answer = found.parts[0]
    assert isinstance(answer, str)
    assert answer.startswith(begins)
    assert "+0.10, 95 % interval -0.30 to +0.50" in answer
    assert "3 symbols in 2 runs, layer 1" in answer
    assert ("about 120 symbols" in answer) == (verdict == "unclear")
    assert "+5.0 points more often for each doubling" in answer
    assert found.terminal == [answer]


@pytest.mark.parametrize(("low", "said"), [(-0.1, True), (0.1, False)])
def test_weights_that_may_be_none_are_not_called_alike_without_a_word(tmp_path: Path, low: float, said: bool) -> None:
    assert ("Neither weight is shown to differ" in str(section(tmp_path, "alike", low=low).parts[0])) == said


def test_one_run_says_nothing_of_changes_from_run_to_run(tmp_path: Path) -> None:
    answer = section(tmp_path, runs=1).parts[0]
    assert isinstance(answer, str)
    assert "3 symbols in 1 run, layer 1" in answer
    assert "doubling" not in answer


def test_numbers_stand_with_their_intervals(tmp_path: Path) -> None:
    tables = {part.title: part for part in section(tmp_path).parts if isinstance(part, Table)}
    rows = {row[0]: row[1:] for row in tables["Recall of symbols, explained"].rows}
    assert rows["R² alone"] == ["0.50 [0.10, 0.70] [0.30, 0.50]"] * 2  # of layer 1
    assert rows["correlation of ranks (Spearman)"] == ["0.50"] * 2
    assert [row[:3] for row in tables["Other measures"].rows][-1] == ["MFCC", "0", "negative entropy"]
    assert len(tables["Other measures"].rows) == 9
    assert len(tables["Symbols"].rows) == 6


def test_figures_show_symbols_weights_and_layers(tmp_path: Path) -> None:
    drawings = {part.name: part for part in section(tmp_path, runs=2).parts if isinstance(part, Drawing)}
    left, middle, right = drawings["coverage"].figure().axes
    assert left.get_xscale() == "log"
    assert [text.get_text() for text in middle.texts] == ["p", "t", "k"] * 2
    assert [label.get_text() for label in right.get_yticklabels()][:2] == ["count", "concentration"]
    assert {line.get_label() for line in drawings["coverage_layers"].figure().axes[0].get_lines()} == {"before", "MFCC"}
    assert [part.name for part in section(tmp_path / "one", layers=1).parts if isinstance(part, Drawing)] == [
        "coverage"
    ]


def test_nothing_is_shown_where_nothing_was_analysed(tmp_path: Path) -> None:
    assert render(SimpleNamespace(folder=tmp_path)) is None  # type: ignore[arg-type]
