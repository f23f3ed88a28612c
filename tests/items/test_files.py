"""Item files of clips with phone times, against a plain count of what belongs in them."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.abx import Items, Task
from w2v_abx.abx.cells import build_cells
from w2v_abx.clips import Clip
from w2v_abx.errors import InputError
from w2v_abx.items.files import ItemFile, ItemSettings

HEADER = "#file onset offset #phone prev-phone next-phone speaker"


def clip(key: str, *symbols: str, speaker: str = "kim", length: float = 0.1, **labels: Any) -> Clip:
    """Phones of 100 ms one after the other; "." is a pause without a symbol."""
    phones = [[round(n * length, 6), round((n + 1) * length, 6), s] for n, s in enumerate(symbols) if s != "."]
    return Clip(key, Path(f"{key}.wav"), labels={"phones": phones, "speaker": speaker, **labels})


def lines(clips: list[Clip], **settings: Any) -> list[str]:
    items = ItemFile.of(clips, ItemSettings(**settings)).items()
    return [" ".join(row) for row in items.frame.iter_rows()]


def test_an_item_is_the_phone_or_the_three_phones(tmp_path: Path) -> None:
    clips = [clip("b", "t", "ɑ", "k"), clip("a", "t", "i", "k", "s")]
    assert lines(clips) == ["a 0.1 0.2 i t k kim", "a 0.2 0.3 k i s kim", "b 0.1 0.2 ɑ t k kim"]
    made = ItemFile.of(clips, ItemSettings(unit="triphone"))
    made.write(tmp_path / "x.item")
    assert (tmp_path / "x.item").read_text(encoding="utf-8").splitlines() == [
        HEADER,
        "a 0.0 0.3 i t k kim",
        "a 0.1 0.4 k i s kim",
        "b 0.0 0.3 ɑ t k kim",
    ]
    assert made.left_out == {"edge": 4}
    assert (made.clips, made.without) == (2, 0)
    assert Items.read(tmp_path / "x.item").frame.equals(made.items().frame)


def test_pauses_and_silence_are_no_neighbours() -> None:
    made = ItemFile.of([clip("a", "sil", "t", "a", "k", ".", "s", "i", "p", "spn")])
    assert [row[3:6] for row in made.rows] == [("a", "t", "k"), ("i", "s", "p")]
    assert made.left_out == {"excluded": 2, "pause": 4}
    assert len(lines([clip("a", "sil", "t", "a", "k", ".", "s")], exclude=[], max_gap=1)) == 3


def test_words_can_bound_the_context() -> None:
    words = [[0, 0.3, "tak"], [0.3, 0.5, "si"]]
    spoken = clip("a", "t", "a", "k", "s", "i", words=words)
    assert lines([spoken], within_words=True) == ["a 0.1 0.2 a t k kim"]
    assert len(lines([spoken])) == 3
    with pytest.raises(InputError, match="b lacks the label words"):
        lines([clip("b", "t", "a", "k")], within_words=True)


def test_durations_are_those_of_the_items() -> None:
    clips = [clip("short", "t", "a", "k", length=0.01), clip("long", "t", "a", "k", length=0.2)]
    assert [line.split()[0] for line in lines(clips)] == ["long"]
    assert [line.split()[0] for line in lines(clips, unit="triphone", max_duration=0.4)] == ["short"]
    assert len(lines(clips, min_duration=0.01, max_duration=0.2)) == 2
    with pytest.raises(InputError, match=r"no phone of 2 clips can be an item \(edge: 4, too_long: 2\)"):
        lines(clips, min_duration=0, max_duration=0.001)


def test_syllables_are_the_phones_of_each_tone() -> None:
    tones = [[0, 0.2, "1"], [0.2, 0.5, "3"], [0.6, 0.8, "4"], [1.0, 1.12, "2"], [1.12, 1.3, "1"]]
    said = clip("a", "m", "a", "n", "i", "an", ".", "m", "sil", "a", ".", "k", "a", tones=tones, sex="female")
    made = ItemFile.of([said], ItemSettings(unit="syllable", columns=["sex"]))
    assert made.columns == (*HEADER.split(), "syllable", "tone", "sex")
    assert [" ".join(row) for row in made.items().frame.iter_rows()] == [
        "a 0.0 0.2 m_a1 - n kim m_a 1 female",
        "a 0.2 0.5 n_i_an3 a - kim n_i_an 3 female",  # before a pause
        "a 1.0 1.1 k2 - a kim k 2 female",  # whose tone ends before the vowel's middle
        "a 1.1 1.2 a1 k - kim a 1 female",
    ]
    assert made.left_out == {"excluded": 1}
    assert len(lines([said], unit="syllable", max_duration=0.2)) == 3
    late = clip("b", "m", "a", tones=[[0, 0.2, "2"], [5, 6, "1"]])
    assert ItemFile.of([late], ItemSettings(unit="syllable")).left_out == {"empty": 1}


def test_contrasts_of_syllables_are_two_tones_of_one() -> None:
    def syllables(*said: str) -> list[Clip]:
        rows = [clip(f"{n}", *word[:-1], tones=[[0, 0.1 * len(word[:-1]), word[-1]]]) for n, word in enumerate(said)]
        return rows

    def kept(clips: list[Clip], **settings: Any) -> list[str]:
        return [line.split()[3] for line in lines(clips, unit="syllable", **settings)]

    said = syllables("ma1", "ma1", "ma4", "ma4", "na4", "na4", "ma3")
    assert kept(said, min_count=2) == ["m_a1", "m_a1", "m_a4", "m_a4"]
    assert kept(said, min_count=2, context="any") == ["m_a1", "m_a1", "m_a4", "m_a4", "n_a4", "n_a4"]


def test_tones_are_a_column_or_part_of_the_phone() -> None:
    said = clip("a", "m", "a", "n", "i", "an", tones=[[0, 0.2, "1"], [0.2, 0.4, "3"]], sex="female")
    assert lines([said], tone="column", columns=["sex"]) == [
        "a 0.1 0.2 a m n kim 1 female",
        "a 0.2 0.3 n a i kim 3 female",
        "a 0.3 0.4 i n an kim 3 female",
    ]
    assert [line.split()[3:6] for line in lines([said], tone="phone")] == [
        ["a1", "m", "n"],
        ["n", "a", "i"],
        ["i3", "n", "an"],
    ]
    no_tone = clip("a", "m", "a", "n", tones=[[0.5, 0.6, "1"]])
    assert lines([no_tone], tone="column") == ["a 0.1 0.2 a m n kim -"]
    final = clip("a", "t", "a", "n", "t", tones=[[0, 0.3, "4"]])
    assert [line.split()[3] for line in lines([final], tone="phone")] == ["a4", "n4"]


def test_splits_and_speakers() -> None:
    clips = [clip("a", "t", "a", "k", talker="x"), clip("b", "t", "i", "k", talker="y")]
    assert lines(clips, speaker="talker") == ["a 0.1 0.2 a t k x", "b 0.1 0.2 i t k y"]
    with pytest.raises(InputError, match=r"a lacks the label 'who' of items\.speaker; its labels are: phones, speaker"):
        lines(clips, speaker="who")
    with pytest.raises(InputError, match="'age' of items.columns"):
        lines(clips, columns=["age"])
    with pytest.raises(InputError, match="none of the 0 clips has the label phones"):
        lines(clips, splits=["test"])


tokens = st.lists(
    st.tuples(st.sampled_from("aiu"), st.sampled_from(["tk", "pk"]), st.sampled_from(["kim", "lee", "mia"])),
    min_size=1,
    max_size=30,
)


@given(tokens, st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_every_item_belongs_to_a_contrast(
    spoken: list[tuple[str, str, str]], least: int, speakers: int, anywhere: bool
) -> None:
    """By the definition, contrast by contrast."""
    clips = [
        clip(f"{n:02d}", before, phone, after, speaker=speaker)
        for n, (phone, (before, after), speaker) in enumerate(spoken)
    ]
    counts = Counter((phone, "" if anywhere else context, speaker) for phone, context, speaker in spoken)
    expected = set()
    for context in ("tk", "pk", ""):
        for one, other in product("aiu", "aiu"):
            makers = {
                who
                for who in ("kim", "lee", "mia")
                if one != other and counts[one, context, who] >= least and counts[other, context, who] >= least
            }
            if len(makers) >= speakers:
                expected |= {(one, context, who) for who in makers}
    if least == speakers == 1:
        wanted = [f"{n:02d}" for n in range(len(spoken))]
    else:
        wanted = [
            f"{n:02d}"
            for n, (phone, context, who) in enumerate(spoken)
            if (phone, "" if anywhere else context, who) in expected
        ]
    settings = ItemSettings(min_count=least, min_speakers=speakers, context="any" if anywhere else "within")
    if not wanted:
        with pytest.raises(InputError, match="few"):
            ItemFile.of(clips, settings)
        return
    assert [row[0] for row in ItemFile.of(clips, settings).items().frame.iter_rows()] == wanted


@given(tokens)
def test_two_of_each_make_cells_within_and_across(spoken: list[tuple[str, str, str]]) -> None:
    """Every item that is kept is in some cell of the ABX task."""
    clips = [clip(f"{n:02d}", c[0], phone, c[1], speaker=who) for n, (phone, c, who) in enumerate(spoken)]
    try:
        items = ItemFile.of(clips, ItemSettings(min_count=2, min_speakers=2)).items()
    except InputError:
        return
    for speaker in ("within", "across"):
        cells = build_cells(items, np.arange(len(items)), Task.preset(speaker))
        assert sorted(cells.items.tolist()) == list(range(len(items)))


def test_a_cap_draws_the_same_for_a_seed() -> None:
    clips = [clip(f"{n:02d}", "t", "ai"[n % 2], "k") for n in range(40)]
    few = lines(clips, max_count=5)
    assert Counter(line.split()[3] for line in few) == {"a": 5, "i": 5}
    assert few == lines(clips, max_count=5)
    assert few != lines(clips, max_count=5, seed=1)
    alone = lines(clips[::2], max_count=5)
    assert set(alone) < set(few)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "word"}, "items.unit='word' must be one of phone, triphone"),
        ({"context": "some"}, "items.context='some'"),
        ({"tone": "both"}, "items.tone='both'"),
        ({"unit": "syllable", "tone": "phone"}, "items.tone=phone is of phones; leave it out"),
        ({"unit": "syllable", "within_words": True}, "items.within_words=true is of phones"),
        ({"splits": ["dev"]}, "items.splits='dev' must be one of train, valid, test"),
        ({"min_count": 0}, "items.min_count=0 must be a whole number from 1"),
        ({"max_count": 0}, "items.max_count=0"),
        ({"max_duration": 0.01}, r"items\.max_duration=0\.01 is below items\.min_duration=0\.02"),
        ({"columns": ["speaker"]}, "items.columns: 'speaker' is a column of its own"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ItemSettings(**settings)


@pytest.mark.parametrize(
    ("phones", "message"),
    [
        ([["0", "x", "a"]], "is not \\[onset s, offset s, symbol\\]"),
        ([[0, 1]], "a: its label phones has \\[0, 1\\], which is not"),
        ([[0.2, 0.1, "a"]], "does not run forward"),
        ([[float("nan"), 1, "a"]], "does not run forward"),
        ([[0.2, 0.3, "a"], [0.1, 0.4, "b"]], "comes after one that begins later"),
    ],
)
def test_labels_that_are_no_times(phones: list[list[Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ItemFile.of([Clip("a", Path("a.wav"), labels={"phones": phones, "speaker": "kim"})])
