"""Items in CSV, JSON lines and parquet: every digit kept, every bad line named."""

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.abx import Items
from w2v_abx.errors import InputError

ROWS = [("a b", "0.10", "0.2500", "p,q"), ("é", "1", "2.5", 'x "y"')]


def read(folder: Path, name: str, data: str | bytes) -> Items:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return Items.read(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", 'file,onset,offset,p\na b,0.10,0.2500,"p,q"\né,1,2.5,"x ""y"""\n'),
        ("x.CSV", '\ufefffile,onset,offset,p\r\na b,0.10,0.2500,"p,q"\r\n\r\né,1,2.5,"x ""y"""\r\n'),
        ("published.csv", 'file\tonset\toffset\tp\na b\t0.10\t0.2500\tp,q\né\t1\t2.5\t"x ""y"""\n'),
        ("excel.csv", 'file;onset;offset;p\na b;0.10;0.2500;p,q\né;1;2.5;"x ""y"""\n'),
        ("x.tsv", 'file\tonset\toffset\tp\na b\t0.10\t0.2500\tp,q\né\t1\t2.5\t"x ""y"""\n'),
        (
            "x.jsonl",
            '{"file": "a b", "onset": 0.10, "offset": 0.2500, "p": "p,q"}\n\n'
            '{"onset": 1, "p": "x \\"y\\"", "file": "é", "offset": "2.5"}\n',
        ),
        (
            "x.ndjson",
            '{"file":"a b","onset":10e-2,"offset":0.2500,"p":"p,q"}\r\n'
            '{"file":"é","onset":1E0,"offset":2.5,"p":"x \\"y\\""}',
        ),
    ],
)
def test_all_text_formats_read_alike(tmp_path: Path, name: str, text: str) -> None:
    items = read(tmp_path, name, text)
    assert items.frame.columns == ["#file", "onset", "offset", "p"]
    assert items.labels == ["p"]
    assert items.frame.rows() == ROWS


def test_parquet_times_are_the_shortest_that_give_the_number_back(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "#file": pl.Series(["f"], dtype=pl.Categorical),
            "onset": pl.Series([0.1], dtype=pl.Float32),
            "offset": [0.30000000000000004],
            "digit": [7],
            "voiced": [True],
        }
    ).write_parquet(tmp_path / "x.parquet")
    items = Items.read(tmp_path / "x.parquet")
    assert items.frame.row(0) == ("f", "0.1", "0.30000000000000004", "7", "true")


@given(value=st.decimals(0, 10**6, places=8), ending=st.sampled_from(["csv", "jsonl"]))
def test_times_keep_their_digits(tmp_path_factory: pytest.TempPathFactory, value: Decimal, ending: str) -> None:
    text = f"file,onset,offset\nf,{value:f},{value:f}\n"
    if ending == "jsonl":
        text = f'{{"file": "f", "onset": {value:f}, "offset": {value:f}}}'
    items = read(tmp_path_factory.mktemp("digits"), f"x.{ending}", text)
    assert items.frame["onset"][0] == f"{value:f}"


def test_a_file_column_beside_another_is_a_label(tmp_path: Path) -> None:
    items = read(tmp_path, "x.csv", ",#file,onset,offset,file\n0,f,0,1,g\n")  # as pandas writes its index
    assert items.labels == ["Unnamed: 0", "file"]
    assert items.frame["#file"][0] == "f"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", "", "line 1: nothing stands in the file"),
        ("x.csv", "file,onset,offset\n", "there is no item"),
        ("x.csv", "file,start,offset\n", r"line 1: .*no column 'onset' \(there are: #file, start, offset\)"),
        ("x.csv", "file,onset,offset,p\nf,0,1,a\n\nf,0,1\n", "line 4: 3 fields where the header names 4"),
        ("x.csv", 'file,onset,offset,p\nf,0,1,"a\nb"\ng,2,1,c\n', "line 4: the onset 2 lies after"),
        ("x.csv", 'file,onset,offset,p\nf,0,1,a\nf,0,1,"a\n', "line 3: this is not a CSV row: unexpected end"),
        ("x.csv", 'file,onset,offset,p\nf,0,1,"a"b\n', "line 2: this is not a CSV row"),
        ("x.csv", "file,onset,offset,p\nf,0,1,\n", "line 2: nothing stands in the column 'p'"),
        ("x.csv", "file,onset,offset,p,p\n", "line 1: each column needs a name of its own"),
        ("x.csv", b"\xff\xfe", "not UTF-8"),
        ("x.jsonl", "\n", "line 1: nothing stands in the file"),
        ("x.jsonl", '{"file": "f", "onset": 0}\n', "line 1: .*no column 'offset'"),
        ("x.jsonl", '{"file": "f", "onset": 0, "offset": 1}\n{"file": "f", "onset": 0}\n', "line 2: .*lacks 'offset'"),
        ("x.jsonl", '{"file": "f", "onset": 0, "offset": null}', "line 1: nothing stands in the column 'offset'"),
        ("x.jsonl", '{"file": "f", "onset": 0, "offset": [1]}', "line 1: the value of 'offset' is a JSON array"),
        ("x.jsonl", '{"file": {"a": 1}, "onset": 0, "offset": 1}', "line 1: the value of 'file' is a JSON object"),
        ("x.jsonl", '{"file": "f", "file": "g", "onset": 0, "offset": 1}', "line 1: .*'file' stands there twice"),
        ("x.jsonl", '{"file": "f", "onset": NaN, "offset": 1}', "line 1: the onset 'NaN' is not a number"),
        ("x.jsonl", '{"file": "f", "onset": 1e999999999, "offset": 1}', "line 1: the onset '1e999999999'"),
        ("x.jsonl", '{"file": "\\ud800", "onset": 0, "offset": 1}', "line 1: this is not JSON"),
        ("x.jsonl", "[1]", "line 1: a line must be one JSON object"),
        ("x.jsonl", "[" * 100_000, "line 1: this is not JSON"),
        ("x.jsonl", '{"file": "f"', "line 1: this is not JSON"),
        ("x.parquet", b"PAR1", "cannot be read as a parquet file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, data: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, name, data)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        ([1.0, None], "x.parquet, row 2: nothing stands in the column 'offset'"),
        ([1.0, 0.0], "x.parquet, row 2: the onset 0.5 lies after the offset 0.0"),
        ([[1.0], [2.0]], r"x.parquet: The column 'offset' holds List\(Float64\)"),
        ([b"\xff", b"1"], "x.parquet: The column 'offset' holds Binary"),
    ],
)
def test_a_bad_parquet_row_is_named(tmp_path: Path, offset: list, message: str) -> None:
    frame = pl.DataFrame({"file": ["f", "g"], "onset": [0.1, 0.5], "offset": offset})
    frame.write_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match=message):
        Items.read(tmp_path / "x.parquet")


def test_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    for name in ("missing.csv", "missing.jsonl", "missing.parquet"):
        with pytest.raises(InputError, match="cannot be read"):
            Items.read(tmp_path / name)
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        Items.read(tmp_path / "folder.parquet")
