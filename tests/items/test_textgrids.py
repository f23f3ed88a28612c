"""TextGrids as Praat and the Montreal Forced Aligner write them."""

from pathlib import Path
from unicodedata import normalize

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
            pick_tier(read_tiers(path), ["words", "phones"])


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
    written = [[onset, offset, normalize("NFC", symbol)] for onset, offset, symbol in rows]
    assert read_tiers(path) == {"phones": written, "words": []}


SAME = {"phones": [[0.0, 0.5, "a"], [0.5, 0.5, "sp"], [0.5, 1.5, "b"]]}
LONG_HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \nxmax = 1.5 \ntiers? <exists> \n'
PHONES = """    item [{0}]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0.0e0
            xmax = +5.0000000001E-01
            text = "a"
        intervals [2]:
            xmin = .5
            xmax = .5
            text = "sp"
        intervals [3]:
            xmin = 0.5
            xmax = 1.5
            text = "b"
"""
POINTS = """    item [1]:
        class = "TextTier"
        name = "events"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            time = 0.3
            mark = "IntervalTier"
"""
BROKEN = """    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 2
        intervals [1]:
            xmin = 0.9
            xmax = {0}
            text = "two"
        intervals [2]:
            xmin = 0.1
            xmax = 0.2
            text = "one"
"""
LAYOUTS = {
    "long": f"{LONG_HEAD}size = 1 \nitem []: \n{PHONES.format(1)}",
    "close": f"{LONG_HEAD}size = 1 \nitem []: \n{PHONES.format(1)}".replace(" = ", "="),
    "points in the older notation": f"{LONG_HEAD}size = 2 \nitem []: \n{POINTS}{PHONES.format(2)}",
    "another tier out of order": f"{LONG_HEAD}size = 2 \nitem []: \n{BROKEN.format(1.0)}{PHONES.format(2)}",
    "another tier without a number": f"{LONG_HEAD}size = 2 \nitem []: \n{BROKEN.format('?')}{PHONES.format(2)}",
    "free": '"ooTextFile"\n"TextGrid"\n0 1.5 ! "time" 3\n<exists>\n1 tiers\n"IntervalTier" "phones"\n0 1.5\n3\n'
    '0 5e-1 "a" 0.5 0.5 "sp" ! "c"\n0.5 1.5 seconds "b"',
    "old short": '"ooTextFile short"\n"TextGrid"\n\n0\n1.5\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n1.5\n3\n0\n0.5\n'
    '"a"\n0.5\n0.5\n"sp"\n0.5\n1.5\n"b"\n',
    "chronological": '"Praat chronological TextGrid text file"\n0 1.5 ! Time domain.\n2 ! Number of tiers.\n'
    '"IntervalTier" "phones" 0 1.5\n"TextTier" "bell" 0 1.5\n1 0 0.5 "a"\n1 0.5 0.5 "sp"\n2 0.6 "x"\n1 0.5 1.5 "b"\n',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_praat_reads(tmp_path: Path, layout: str, encoding: str) -> None:
    """Exponents, signs, comments, empty intervals, overlaps from rounding; what is wrong elsewhere spoils nothing."""
    path = save(tmp_path / "x.TextGrid", LAYOUTS[layout], encoding)
    rows = pick_tier(read_tiers(path), ["phones"])
    assert rows is not None
    assert [[round(onset, 9), round(offset, 9), symbol] for onset, offset, symbol in rows] == SAME["phones"]


@pytest.mark.parametrize(
    ("end", "message"),
    [("1.0", r"interval 2, from 0\.1 to 0\.2 s, begins before"), ("0.8", "ends before it begins"), ("?", "breaks off")],
)
def test_a_tier_that_is_asked_for_is_checked(tmp_path: Path, end: str, message: str) -> None:
    path = save(tmp_path / "x.TextGrid", f"{LONG_HEAD}size = 2 \nitem []: \n{BROKEN.format(end)}{PHONES.format(2)}")
    with pytest.raises(InputError, match=rf"x\.TextGrid, tier 'words'.* {message}"):
        pick_tier(read_tiers(path), ["words"])


@pytest.mark.parametrize("count", ["1e12", "-1", "2.5", "1e999", "?"])
def test_a_number_of_intervals_that_cannot_be(tmp_path: Path, count: str) -> None:
    path = save(tmp_path / "x.TextGrid", SHORT.replace("\n3\n", f"\n{count}\n"))
    with pytest.raises(InputError, match=r"x\.TextGrid, tier 'phones' breaks off"):
        pick_tier(read_tiers(path), ["phones"])


@pytest.mark.parametrize("onset", ["-0.3", "-.3", "-3e-1", "-0.30"])
@pytest.mark.parametrize("text", [LONG, SHORT])
def test_a_negative_time_keeps_its_sign(tmp_path: Path, text: str, onset: str) -> None:
    tier = "words" if text is LONG else "phones"
    moved = text.replace('0.5\n            text = ""', '0.5\n            text = "x"').replace("\n0\n", f"\n{onset}\n")
    path = save(tmp_path / "x.TextGrid", moved.replace("xmin = 0\n", f"xmin = {onset}\n"))
    tiers = read_tiers(path)
    assert (tiers.start, tiers[tier][0][0]) == (-0.3, -0.3)


def test_a_symbol_is_the_same_in_either_unicode_form(tmp_path: Path) -> None:
    composed = LONG.replace("ah", "ã").replace('"words"', '"mögliche"')
    paths = [save(tmp_path / f"{form}.TextGrid", normalize(form, composed)) for form in ("NFC", "NFD")]
    assert read_tiers(paths[0]) == read_tiers(paths[1]) == {"mögliche": [[0.5, 1.5, 'say "ã" x']]}


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_without_tiers(tmp_path: Path, text: str) -> None:
    head = text[: text.index('"IntervalTier"')] if text is SHORT else f"{LONG_HEAD}size = 0\n"
    assert read_tiers(save(tmp_path / "x.TextGrid", head.replace("<exists>\n1\n", "<exists>\n0\n"))) == {}
