"""TextGrids as Praat and the Montreal Forced Aligner write them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.errors import InputError
from w2v_abx.items.textgrids import pick_tier, read_tiers, write_tiers

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.5
            text = "say ""ah"" x"
    item [2]:
        class = "TextTier"
        name = "bursts"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.6
            mark = "b"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
1.5
<exists>
1
"IntervalTier"
"phones"
0
1.5
3
0
0.5
"ɑː"
0.5
0.75
""
0.75
1.5
"sp"
"""


def save(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_both_formats_in_every_encoding(tmp_path: Path, encoding: str, ends: str) -> None:
    long = save(tmp_path / "long.TextGrid", LONG.replace("\n", ends), encoding)
    short = save(tmp_path / "short.TextGrid", SHORT.replace("\n", ends), encoding)
    assert read_tiers(long) == {"words": [[0.5, 1.5, 'say "ah" x']]}
    assert read_tiers(short) == {"phones": [[0.0, 0.5, "ɑː"], [0.75, 1.5, "sp"]]}


def test_a_tier_is_found_under_its_other_names() -> None:
    tiers = {"kim - phones": [[0, 1, "a"]], "Words": [[0, 1, "ah"]]}
    assert pick_tier(tiers, ["phones"]) == [[0, 1, "a"]]
    assert pick_tier(tiers, ["ORT", "words"]) == [[0, 1, "ah"]]
    assert pick_tier(tiers, ["tones", "pitch"]) is None
    assert pick_tier({"kim - phones": [[0, 1, "a"]], "lee - phones": [[0, 1, "b"]]}, ["phones"]) is None


@pytest.mark.parametrize(("text", "end"), [(LONG, LONG.index("item [2]")), (SHORT, SHORT.rindex('p"'))])
def test_a_file_that_breaks_off_is_never_read_in_part(tmp_path: Path, text: str, end: int) -> None:
    """Cut at any character up to the end of its intervals, it is refused by name."""
    for size in range(end):
        path = save(tmp_path / "cut.TextGrid", text[:size])
        with pytest.raises(InputError, match=r"cut\.TextGrid"):
            read_tiers(path)


@pytest.mark.parametrize("data", [b"", b"no grid", b"\xff\xfe\x00", b"\xe9\xe9", b'{"a": 1}', b"[]"])
def test_what_is_no_textgrid(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.TextGrid").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.TextGrid"):
        read_tiers(tmp_path / "x.TextGrid")
    with pytest.raises(InputError, match=r"gone\.TextGrid does not exist"):
        read_tiers(tmp_path / "gone.TextGrid")


def test_intervals_that_no_textgrid_can_hold(tmp_path: Path) -> None:
    for rows, message in (
        ([[0, 0.5, "a"], [0.4, 0.6, "b"]], "cannot be written"),
        ([[0.5, 0.5, "a"]], "cannot be written"),
        ([[0.5, 1.2, "a"]], "'phones' ends at 1.2 s, after the audio's 1 s"),
    ):
        with pytest.raises(InputError, match=message):
            write_tiers(tmp_path / "a.TextGrid", {"phones": rows}, 1.0)
    assert not list(tmp_path.iterdir())


symbols = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=4).filter(
    lambda text: text.strip() == text
)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 500), symbols), max_size=8),
    st.integers(0, 500),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int, str]], after: int
) -> None:
    """Pauses of 0 to 0.3 s and phones of 1 to 500 ms, of any symbols."""
    rows, time = [], 0
    for pause, length, symbol in parts:
        rows.append([(time + 100 * pause) / 1000, (time + 100 * pause + length) / 1000, symbol])
        time += 100 * pause + length
    path = tmp_path_factory.mktemp("grids") / "a.TextGrid"
    write_tiers(path, {"phones": rows, "words": []}, (time + after + 1) / 1000)
    assert read_tiers(path) == {"phones": rows, "words": []}
