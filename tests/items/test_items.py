"""Item files, and which frames an item has."""

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.abx import Items
from w2v_abx.errors import InputError
from w2v_abx.items.frames import exact_frequency

HEADER = "#file onset offset #phone prev-phone next-phone speaker"


def test_reads_spaces_tabs_and_any_label_columns(tmp_path: Path) -> None:
    (tmp_path / "spaces.item").write_text(f"{HEADER}\nf1 0.10 0.2500 a b c s1\n\nf2 1 2.5 b c d s2\n", encoding="utf-8")
    items = Items.read(tmp_path / "spaces.item")
    assert len(items) == 2
    assert items.labels == ["#phone", "prev-phone", "next-phone", "speaker"]
    assert items.frame.row(0) == ("f1", "0.10", "0.2500", "a", "b", "c", "s1")
    (tmp_path / "tabs.item").write_text("onset\toffset\t#file\tword\n0\t1\tmy file\tgood day\n", encoding="utf-8")
    assert Items.read(tmp_path / "tabs.item").frame.row(0) == ("0", "1", "my file", "good day")


def test_what_is_written_reads_the_same(tmp_path: Path) -> None:
    frame = pl.DataFrame({"#file": ["a", "b"], "onset": ["0.10", "0.2"], "offset": ["0.300", "1"], "word": ["x", "y"]})
    Items(frame).write(tmp_path / "plain.item")
    assert (tmp_path / "plain.item").read_text(encoding="utf-8").splitlines()[1] == "a 0.10 0.300 x"
    assert Items.read(tmp_path / "plain.item").frame.equals(frame)
    spaced = frame.with_columns(word=pl.Series(["x y", "é"]))
    Items(spaced).write(tmp_path / "spaced.item")
    assert Items.read(tmp_path / "spaced.item").frame.equals(spaced)
    with pytest.raises(InputError, match=r"row 2.*line break in 'word'"):
        Items(frame.with_columns(word=pl.Series(["x", "y\nz"]))).write(tmp_path / "broken.item")
    assert not (tmp_path / "broken.item").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["f 0.1 0.2 a b c"], "line 2: 6 fields where the header names 7"),
        (["f 0.3 0.2 a b c s"], "line 2: the onset 0.3 lies after the offset 0.2"),
        (["", "f 0.1 x a b c s"], "line 3: the offset 'x' is not a number"),
        (["f -0.1 0.2 a b c s"], "line 2: the onset '-0.1' is not a number of seconds .zero or more"),
        (["f nan 0.2 a b c s"], "line 2: the onset 'nan'"),
        (["f 0.1 1e a b c s"], "line 2: the offset '1e'"),
        ([], "there is no item"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "dev.item"
    path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        Items.read(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_item_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Items.read(tmp_path / "missing.item")
    with pytest.raises(InputError, match="cannot be read"):
        Items.read(tmp_path)
    (tmp_path / "a.item").write_text("#file start stop\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1: .* no column 'onset'"):
        Items.read(tmp_path / "a.item")
    (tmp_path / "b.item").write_text("#file onset offset p p\n", encoding="utf-8")
    with pytest.raises(InputError, match="a name of its own"):
        Items.read(tmp_path / "b.item")
    (tmp_path / "c.item").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        Items.read(tmp_path / "c.item")
    (tmp_path / "d.item").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        Items.read(tmp_path / "d.item")


def test_a_frame_of_items_is_checked_too() -> None:
    good = {"#file": ["f", "f"], "onset": [0.1, 2e-05], "offset": [0.3, 0.25], "p": ["a", "b"]}
    assert Items(pl.DataFrame(good)).frame["onset"].to_list() == ["0.1", "0.00002"]
    decimals = pl.DataFrame(good).with_columns(onset=pl.Series([Decimal("0.10"), Decimal("0.20")]))
    assert [Decimal(text) for text in Items(decimals).frame["onset"]] == [Decimal("0.1"), Decimal("0.2")]
    for column, value, message in [
        ("onset", [0.1, -0.5], "row 2: the onset '-0.5'"),
        ("onset", [float("nan"), 0.1], "row 1: the onset 'NaN'"),
        ("p", ["a", None], "row 2: nothing stands in the column 'p'"),
        ("p", ["", "b"], "row 1: nothing stands in the column 'p'"),
    ]:
        with pytest.raises(InputError, match=message):
            Items(pl.DataFrame({**good, column: value}))
    with pytest.raises(InputError, match="no column '#file'"):
        Items(pl.DataFrame(good).drop("#file"))


times = st.decimals(0, 5000, places=5).map(lambda d: d.quantize(Decimal("0.00001")))


@given(
    pairs=st.lists(st.tuples(times, times).map(sorted), min_size=1, max_size=5),
    frequency=st.sampled_from([50, 100, 49.95, "62.5", 0.3, Fraction(16000, 320), Fraction(100, 3)]),
)
def test_frames_follow_the_rule_exactly(pairs: list[list[Decimal]], frequency: object) -> None:
    exact = exact_frequency(frequency)  # type: ignore[arg-type]
    frame = pl.DataFrame(
        [("f", str(a), str(b), "x") for a, b in pairs], schema=["#file", "onset", "offset", "p"], orient="row"
    )
    starts, stops = Items(frame).spans(exact)
    half = Fraction(1, 2)
    assert starts.tolist() == [ceil(Fraction(a) * exact - half) for a, _ in pairs]
    assert stops.tolist() == [floor(Fraction(b) * exact - half) + 1 for _, b in pairs]


def test_frames_are_exact_where_floats_are_not() -> None:
    # 0.07 · 50 − 1/2 is 3 and 0.29 · 50 − 1/2 is 14, but for a float 0.07 · 50 is above 3.5 and 0.29 · 50 below 14.5.
    items = Items(pl.DataFrame({"#file": ["f"], "onset": ["0.07"], "offset": ["0.29"], "p": ["a"]}))
    starts, stops = items.spans(exact_frequency(50))
    assert (starts[0], stops[0]) == (3, 15)
    digits = Items(
        pl.DataFrame({"#file": ["f"], "onset": ["0.0700000000000000000000000001"], "offset": ["0.29"], "p": ["a"]})
    )
    assert digits.spans(exact_frequency(50))[0][0] == 4


def test_small_times_as_other_programs_write_them(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("#file,onset,offset,p\nf,5e-05, 1.5e0,a\nf,0.00005,1.5,b\n")
    starts, stops = Items.read(path).spans(Fraction(100_000))
    assert starts.tolist() == [5, 5]
    assert stops.tolist() == [150_000, 150_000]


@pytest.mark.parametrize(
    "zero", ["-0.0", "-0", "-.0", "-0.", "+0", "-1e-17", "-1E-07", "-0.0000001", " -0 ", "0e5", "-0e-3"]
)
def test_whatever_computers_make_of_zero(tmp_path: Path, zero: str) -> None:
    for name, mark in (("x.csv", ","), ("x.tsv", "\t"), ("x.item", "\t")):
        (tmp_path / name).write_text(
            mark.join(["file", "onset", "offset", "p"]) + f"\n{mark.join(['f', zero, '+0.5', 'a'])}\n"
        )
        starts, stops = Items.read(tmp_path / name).spans(Fraction(50))
        assert (starts.tolist(), stops.tolist()) == ([0], [25])


@pytest.mark.parametrize("time", ["-", "+", "-.", "-1e-5", "-0.00001", "--0", "-0x", "1,5", "", "1e300", "9" * 10])
def test_other_times_are_none(tmp_path: Path, time: str) -> None:
    (tmp_path / "x.tsv").write_text(f"file\tonset\toffset\tp\nf\t{time}\t0.5\ta\n")
    with pytest.raises(InputError, match=r"x.tsv, line 2: (the onset .* is not a number|nothing stands)"):
        Items.read(tmp_path / "x.tsv")


def test_some_items_keep_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "dev.item"
    path.write_text("\n".join([HEADER, *(f"f {k} {k + 1} a b c s" for k in range(4))]))
    some = Items.read(path).take(np.array([1, 3]))
    assert some.frame["onset"].to_list() == ["1", "3"]
    assert some.where(1) == f"{path}, line 5"
