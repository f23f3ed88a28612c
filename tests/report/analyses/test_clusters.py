"""The section about clusters, from results made by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from w2v_abx.analysis.analysis import AnalysisResult
from w2v_abx.report.analyses.alluvial import ordered
from w2v_abx.report.analyses.clusters import MEASURES, render
from w2v_abx.report.section import Drawing, Section, Table

K = 3
SETTING: dict[str, Any] = {"space": "raw", "method": "spherical", "k": K}


def result(*, pair: bool = True, decoded: bool = True) -> AnalysisResult:
    models = {"before": [-1, 0, 1], "after": [-1, 0, 1], "mfcc": [0]}
    places = [{"model": name, "layer": n, **SETTING} for n in (-1, 0, 1) for name in models if n in models[name]]
    agreement = [
        {**place, "seed": seed, "label": label, "blanks": blanks, "frames": 90, "distance": 1.0}
        | dict.fromkeys((*MEASURES, "pnmi"), 0.1 * place["layer"] + 0.3 + 0.01 * seed)
        for place in places
        for seed in (0, 1)
        for label, blanks in (("#phone", None), ("after: phones", True), ("after: phones", False))
    ]
    stability = [{**p, "pairs": 1, "ami": 0.8, "ari": 0.7, "ami_lowest": 0.8, "ari_lowest": 0.7} for p in places]
    names = [
        {**place, "cluster": n, "frames": 30, "label": "#phone", "symbol": symbol, "share": 0.5}
        for place in places
        for n, symbol in enumerate(["a", None, "t"])
    ]
    edits = {"hits": 9, "substitutions": 5, "deletions": 1, "insertions": 2}
    decoding = [{**place, "label": "#phone", "error_rate": 0.8, **edits} for place in places]
    head = {"model": "after", "layer": None, "space": None, "method": "head", "k": None}
    decoding.append({**head, "label": "after: phones", "error_rate": None, **edits})
    move = {"model": "before", "layer": 1, **SETTING, "other": "after", "other_layer": 1}
    moves = [{**move, "frames": 90, "ami": 0.4, "ari": 0.3, "drift": 0.25, "splits": 2, "merges": 1}]
    flows = [
        {**move, "cluster": a, "other_cluster": b, "frames": 20 + a, "matched": a == (b + 1) % K}
        for a in range(K)
        for b in range(K)
    ]
    tables = {"agreement": agreement, "stability": stability, "names": names}
    tables |= {"decoding": decoding} if decoded else {}
    tables |= {"moves": moves, "flows": flows} if pair else {}
    facts = {"models": list(models), "baselines": ["mfcc"]}
    made = {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in tables.items()}
    return AnalysisResult(facts, made, ["A note."])


def section_of(folder: Path, found: AnalysisResult) -> Section:
    found.save(folder / "analysis" / "clusters")
    section = render(SimpleNamespace(folder=folder))  # type: ignore[arg-type]
    assert section is not None
    return section


def test_the_answer_comes_first_and_the_numbers_are_folded(tmp_path: Path) -> None:
    section = section_of(tmp_path, result())
    best = section.parts[0]
    assert isinstance(best, Table)
    assert best.rows == [
        ["before", "1", "0.405", "0.405", "0.405", "0.405", "80.0", "0.800"],
        ["after", "1", "0.405", "0.405", "0.405", "0.405", "80.0", "0.800"],
        ["MFCC", "0", "0.305", "0.305", "0.305", "0.305", "80.0", "0.800"],
    ]
    assert "3 clusters (spherical k-means) with phone" in best.note
    sentences = [part for part in section.parts if isinstance(part, str)]
    assert sentences[0].startswith("From before, layer 1 to after, layer 1, 25.0 % of the frames leave the cluster")
    assert sentences[-1] == "A note."
    folded = {part.title: part for part in section.parts if isinstance(part, Table) and part.folded}
    assert len(folded) == 4
    agreement = folded["Agreement of clusters with labels"]
    assert [row[1] for row in agreement.rows[:9:3]] == ["convolutions", "0", "1"]
    assert [row[5] for row in agreement.rows[:3]] == [
        "phone",
        "after: phones, with blanks",
        "after: phones, without blanks",
    ]
    assert folded["Clusters, and heads, decoded"].rows[-2][:6] == ["after", "-", "-", "head", "-", "after: phones"]


def test_every_figure_can_be_drawn(tmp_path: Path) -> None:
    drawings = [part for part in section_of(tmp_path, result()).parts if isinstance(part, Drawing)]
    figures = {drawing.name: drawing.figure() for drawing in drawings}
    assert list(figures) == [
        "clusters",
        "clusters_decoded",
        "clusters_alluvial_before_after_1",
        "clusters_matrix_before_after_1",
    ]
    for figure in figures.values():
        figure.canvas.draw()
    assert figures["clusters"].axes[0].get_title(loc="left") == "phone"
    assert "conv" in [label.get_text() for label in figures["clusters"].axes[0].get_xticklabels()]


@pytest.mark.parametrize("decoded", [True, False])
def test_one_model_has_no_changes(tmp_path: Path, decoded: bool) -> None:
    section = section_of(tmp_path, result(pair=False, decoded=decoded))
    drawings = [part.name for part in section.parts if isinstance(part, Drawing)]
    assert drawings == ["clusters", "clusters_decoded"][: 1 + decoded]


def test_nothing_was_clustered(tmp_path: Path) -> None:
    assert render(SimpleNamespace(folder=tmp_path)) is None  # type: ignore[arg-type]


def test_matched_clusters_are_beside_each_other() -> None:
    flows = np.array([[9.0, 1, 0], [0, 1, 8], [0, 5, 4]])
    left, right = ordered(flows, (["b", "a", "c"], ["x", "y", "z"]), {0: 0, 1: 2})
    assert left == [1, 0, 2]
    assert right == [2, 0, 1]  # the last is not matched: most of it comes from c
