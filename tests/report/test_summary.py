"""Reading a run's folder: what is compared, what is missing, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from w2v_abx.errors import InputError
from w2v_abx.report import summarize, write_report
from w2v_abx.report.summary import read_log


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_baseline_decides_and_comparisons_are_written(copy: Path) -> None:
    summary = summarize(copy)
    assert summary.primary is not None
    assert (summary.primary.layer, summary.primary.condition) == (2, "across")
    assert summary.verdict.startswith("After training on sound<scape> & rain the model is worse")
    written = json.loads((copy / "comparisons.json").read_text())
    assert written["verdict"] == summary.verdict
    assert written["primary"] == {"layer": 2, "condition": "across"}
    assert written["seed"] == 3
    assert [(c["condition"], c["layer"]) for c in written["comparisons"]] == [
        (condition, layer) for condition in ("across", "within") for layer in range(4)
    ]


def test_primary_layer_from_the_configuration_or_given(copy: Path) -> None:
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("primary_layer: null", "primary_layer: 1"))
    assert "at layer 1" in summarize(copy).verdict
    assert "at layer 3" in summarize(copy, primary_layer=3).verdict
    with pytest.raises(InputError, match="primary_layer=9 was not scored; this run has the layers 0, 1, 2, 3"):
        summarize(copy, primary_layer=9)


def test_a_run_that_only_scored(copy: Path) -> None:
    shutil.rmtree(copy / "abx" / "after")
    summary = summarize(copy)
    assert summary.comparisons == []
    assert summary.verdict == "Nothing was compared: this run has no abx/after."
    assert not (copy / "comparisons.json").exists()


def test_half_a_row_at_the_end_of_a_log(copy: Path) -> None:
    whole = len((copy / "thermal.csv").read_text().splitlines()) - 1
    with (copy / "thermal.csv").open("a") as file:
        file.write("605,121,79")
    assert read_log(copy / "thermal.csv").height == whole


def test_models_scored_on_other_cells(copy: Path) -> None:
    table = copy / "abx" / "after" / "cells.parquet"
    pl.read_parquet(table)[1:].write_parquet(table)
    with pytest.raises(InputError, match=r"1 of \d+ cells before are not among those after"):
        summarize(copy)


def test_cells_that_do_not_go_with_their_summary(copy: Path) -> None:
    table = copy / "abx" / "before" / "cells.parquet"
    pl.read_parquet(table).filter(layer=0).write_parquet(table)
    with pytest.raises(InputError, match=r"holds other layers and conditions than summary\.json"):
        summarize(copy)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("head.json", "{", "head.json is not JSON"),
        ("head.json", "[]", "holds a list, not an object"),
        ("config.yaml", "a: [", "config.yaml is not YAML"),
        ("abx/before/summary.json", "{}", "is not an ABX summary"),
        ("abx/before/cells.parquet", "no parquet", "cells.parquet cannot be read"),
    ],
)
def test_a_broken_file_is_named(copy: Path, name: str, text: str, says: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(InputError, match=says):
        write_report(summarize(copy))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run's folder"):
        summarize(tmp_path / "nowhere")


def test_words_and_digits_as_well_as_phones(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", layers=1, speakers=3, phones=["0", "1", "2", "3"])
    for tag in ("before", "after", "mfcc", "random"):
        where = folder / "abx" / tag
        table = pl.read_parquet(where / "cells.parquet").rename({"#phone": "digit", "#phone_b": "digit_b"})
        table.with_columns(pl.col("digit", "digit_b").cast(pl.Int64)).write_parquet(where / "cells.parquet")
        stored = json.loads((where / "summary.json").read_text())
        (where / "summary.json").write_text(json.dumps(stored | {"on": "digit"}))
    assert "telling digits apart" in summarize(folder).verdict
