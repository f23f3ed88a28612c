"""Items in CSV, JSON lines and parquet: every digit kept, every bad line named."""

import csv
import io
import re
from decimal import Decimal
from pathlib import Path
from unicodedata import normalize

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import told

from w2v_abx.abx import Items
from w2v_abx.corpora.tables import read_rows
from w2v_abx.errors import InputError
from w2v_abx.items.tables import read_table

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
        ("x.csv", "file,onset,offset,p\n\nf,0,1\n", "line 3: 3 fields where the header names 4"),
        ("x.csv", 'file,onset,offset,p\nf,0,1,"a\nb"\ng,2,1,c\n', "line 4: the onset 2 lies after"),
        ("x.csv", "file,onset,offset,p\nf,0,1,\n", "line 2: nothing stands in the column 'p'"),
        ("x.csv", "file,onset,offset,p,p\n", "line 1: each column needs a name of its own"),
        ("x.csv", b"\xff\xfe\x00", "cannot be read as UTF-8"),
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
def test_what_is_wrong_is_named(
    tmp_path: Path, name: str, data: str | bytes, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = told(caplog, lambda: read(tmp_path, name, data))
    assert re.search(message, text)
    assert str(tmp_path / name) in text


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        ([1.0, None], "x.parquet, row 2: nothing stands in the column 'offset'"),
        ([1.0, 0.0], "x.parquet, row 2: the onset 0.5 lies after the offset 0.0"),
        ([[1.0], [2.0]], r"x.parquet: The column 'offset' holds List\(Float64\)"),
        ([b"\xff", b"1"], "x.parquet: The column 'offset' holds Binary"),
    ],
)
def test_a_bad_parquet_row_is_named(
    tmp_path: Path, offset: list, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pl.DataFrame({"file": ["f", "g"], "onset": [0.1, 0.5], "offset": offset})
    frame.write_parquet(tmp_path / "x.parquet")
    assert re.search(message, told(caplog, lambda: Items.read(tmp_path / "x.parquet")))


def test_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    for name in ("missing.csv", "missing.jsonl", "missing.parquet"):
        with pytest.raises(InputError, match="cannot be read|does not exist"):
            Items.read(tmp_path / name)
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        Items.read(tmp_path / "folder.parquet")


marks = st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters=',;\t"\n')
# Of three lines and more, each as wide as the header, it cannot be told whether they are text in a row or rows.
cells = st.text(marks, max_size=6).filter(lambda text: text.count("\n") < 2)


@given(st.lists(st.tuples(cells, cells, cells), max_size=8), st.sampled_from(",;\t"))
def test_what_csv_writers_write_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], separator: str
) -> None:
    """Separators, quotation marks and line breaks in any field; rows of nothing are passed over."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([("one", "two", "three"), *rows])
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="\n")
    found = read_table(path)
    written = [tuple(normalize("NFC", field) for field in row) for row in rows]
    read = [row for row in found.frame.rows() if any(map(str.strip, row))]
    assert read == [row for row in written if any(map(str.strip, row))]


QUOTES = {
    '"big" dog': '"big" dog',
    '"big dog': '"big dog',
    'big "dog"': 'big "dog"',
    '5" nail': '5" nail',
    '"': '"',
    '""': "",
    '"""': '"""',
    '"a ""b"" c"': 'a "b" c',
    '"a" "b"': '"a" "b"',
}


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("field", QUOTES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_quotation_mark_wherever_it_stands(tmp_path: Path, separator: str, field: str, place: int) -> None:
    """One that opens no field is a character; what stands before and after such a row is not touched."""
    head, before, after = ["one", "two", "three"], ["a", '"x, y\tz"', "b"], ["c", '"d"', "e"]
    row = ["f", "g", "h"]
    row[place] = field
    path = tmp_path / ("x.tsv" if separator == "\t" else "x.csv")
    path.write_text("".join(f"{separator.join(line)}\n" for line in (head, before, row, after, row, after)))
    row[place] = QUOTES[field]
    plain = ["c", "d", "e"]
    assert [list(found) for found in read_table(path).frame.rows()] == [["a", "x, y\tz", "b"], row, plain, row, plain]


def test_a_few_bad_rows_of_many_are_left_out_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f'f{n},{n},{n + 1},"p{n}"' for n in range(1000)]
    bad = {
        7: "f,0",
        500: "f,0,1,a,b",
        501: "f,2,1,a",
        502: "f,x,1,a",
        503: "f,-0.3,1,a",
        504: "f,0,1,",
        999: "f,nan,1,a",
    }
    for place, line in bad.items():
        lines[place] = line
    items = read(tmp_path, "x.csv", "\n".join(["file,onset,offset,p", *lines]))
    assert len(items) == 1000 - len(bad)
    assert items.where(7) == f"{tmp_path / 'x.csv'}, line 10"
    assert [int(count) for count in re.findall(r"(\d+) of \d+ rows cannot be read and are left out", caplog.text)] == [
        2,
        1,
        3,
        1,
    ]
    assert "line 9: 2 fields where the header names 4 columns; " in caplog.text
    with pytest.raises(InputError, match=r"line 2: 3 fields .* \(3 of 5 rows cannot be read\)"):
        read(tmp_path, "y.csv", "file,onset,offset,p\n" + "f,0,1\n" * 3 + "f,0,1,a\n" * 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("ending", ["item", "csv", "tsv", "jsonl", "txt"])
def test_characters_and_bytes_of_every_form_are_the_same_text(
    tmp_path: Path, ending: str, form: str, encoding: str
) -> None:
    mark = {"csv": ",", "jsonl": ""}.get(ending, "\t")
    rows = [("file", "onset", "offset", "p"), ("zoé", "0", "1", "ã"), ("zoé", "1", "2", "ç")]
    text = "".join(f"{mark.join(row)}\n" for row in rows)
    if ending == "jsonl":
        text = "".join(f'{{"file": "{f}", "onset": {on}, "offset": {off}, "p": "{p}"}}\n' for f, on, off, p in rows[1:])
    (tmp_path / f"x.{ending}").write_bytes(normalize(form, text).encode(encoding))
    assert Items.read(tmp_path / f"x.{ending}").frame.rows() == rows[1:]
    if ending != "jsonl":
        assert [tuple(row.values()) for _, row in read_rows(tmp_path / f"x.{ending}", ["file"])] == rows[1:]


def test_frames_and_escapes_are_composed_too(tmp_path: Path) -> None:
    pl.DataFrame({"file": ["f"], "onset": [0], "offset": [1], "p": ["a\u0303"]}).write_parquet(tmp_path / "x.parquet")
    escaped = read(tmp_path, "x.jsonl", '{"file": "f", "onset": 0, "offset": 1, "p": "a\\u0303"}')
    for items in (escaped, Items.read(tmp_path / "x.parquet"), Items(pl.read_parquet(tmp_path / "x.parquet"))):
        assert items.frame["p"][0] == "ã"
