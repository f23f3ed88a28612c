"""Cells that are texts to any program, and read back as what was written."""

import csv
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.system.spreadsheets import neutral, restored, write_csv

CELLS = st.text(alphabet="=+-@\t\r\n'＝0.5e a", max_size=6)


@pytest.mark.parametrize(
    "cell", ["=1+1", "+a", "-a", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠a", "=", "-", "--1", "-1-1"]
)
def test_a_formula_is_none(cell: str) -> None:
    assert neutral(cell) == f"'{cell}"
    assert restored(neutral(cell)) == cell


@pytest.mark.parametrize("cell", ["", "a", "a=b", " =1", "-0.5", "+3", "-1e-5", "-.5", "12", "'", "'a", "'tis"])
def test_what_is_none_stays(cell: str) -> None:
    assert neutral(cell) == cell == restored(cell)


@given(CELLS)
def test_cells_read_back_equal(cell: str) -> None:
    assert restored(neutral(cell)) == cell
    assert neutral(cell)[:1] not in set("=@\t\r\n＝")


@given(cells=st.lists(CELLS, min_size=1, max_size=5))
def test_tables(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    path = tmp_path_factory.mktemp("tables") / "a.csv"
    write_csv(path, pl.DataFrame({"=name": cells, "number": [-0.5] * len(cells)}))
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=name", "number"]
    assert [row[0] for row in rows] == [neutral(cell) for cell in cells]
    assert [restored(row[0]) for row in rows] == cells
    assert {row[1] for row in rows} == {"-0.5"}


def test_missing_values_stay_missing(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", pl.DataFrame({"a": ["=1", None], "b": [None, 1]}))
    assert (tmp_path / "a.csv").read_text() == "a,b\n'=1,\n,1\n"
