import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.corpora.timit import SYMBOLS
from w2v_abx.heads.phonology import CLASSES, broad_class, feature_distance, passed_over, segments, to_ipa

WORDS = st.lists(st.sampled_from(["p", "b", "m", "s", "t͡ʃ", "a", "iː", "aɪ", "ŋ", "ɜ˞", "nʲ"]), max_size=6)


def spoken(symbols: list[str]) -> list[tuple[int, ...]]:
    return [segment for symbol in symbols for segment in segments(symbol)]


def by_the_textbook(left: list[tuple[int, ...]], right: list[tuple[int, ...]]) -> float:
    table = np.zeros((len(left) + 1, len(right) + 1))
    table[:, 0], table[0] = np.arange(len(left) + 1), np.arange(len(right) + 1)
    for i, one in enumerate(left, 1):
        for j, other in enumerate(right, 1):
            changed = sum(x != y for x, y in zip(one, other, strict=True)) / len(one)
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + changed)
    return float(table[-1, -1])


@given(WORDS, WORDS)
def test_the_distance_is_the_textbooks(left: list[str], right: list[str]) -> None:
    assert feature_distance(spoken(left), spoken(right)) == pytest.approx(by_the_textbook(spoken(left), spoken(right)))


def test_segments_that_differ_in_voice_alone_are_one_feature_apart() -> None:
    assert feature_distance(segments("p"), segments("b")) == pytest.approx(1 / 24)
    assert feature_distance(segments("p"), segments("ɑ")) > 5 / 24
    assert feature_distance(segments("pɑ"), segments("ɑ")) == 1.0


def test_diacritics_change_features_and_ties_join() -> None:
    # As panphon 0.22.2 has them: nasal, long; a diphthong is two segments, an affricate with a tie is one.
    assert feature_distance(segments("ɛ"), segments("ɛ̃")) == pytest.approx(1 / 24)
    assert feature_distance(segments("i"), segments("iː")) == pytest.approx(1 / 24)
    assert (len(segments("aɪ")), len(segments("t͡ʃ")), len(segments("tʃ")), len(segments("ˈa"))) == (2, 1, 2, 1)
    assert segments("?!") == segments("") == ()


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [("aa", "vowel"), ("el", "approximant"), ("eng", "nasal"), ("hh", "fricative"), ("jh", "affricate"), ("q", "stop"),
     ("bcl", "closure"), ("h#", "silence"), ("dx", "approximant"), ("er", "vowel"), ("zh", "fricative"),
     ("?", "other")],
)  # fmt: skip
def test_broad_classes_of_timits_phones(symbol: str, expected: str) -> None:
    assert broad_class(symbol, "timit") == expected


def test_every_phone_of_timit_has_a_class_and_features() -> None:
    for symbol in SYMBOLS:
        kind = broad_class(symbol, "timit")
        assert kind in CLASSES
        assert kind != "other"
        assert bool(segments(to_ipa(symbol, "timit"))) is (kind not in ("closure", "silence"))


def test_an_affricate_is_one_with_a_tie_or_without_it() -> None:
    assert [broad_class(symbol, "ipa") for symbol in ("t͡ʃ", "tʃ", "dʑ", "ts", "kʰ", "aɪ")] == [
        *["affricate"] * 4,
        "stop",
        "vowel",
    ]


def test_a_pause_has_no_features_in_any_alphabet() -> None:
    assert to_ipa("sil", "ipa") == to_ipa("sil", "timit") == ""


def test_broad_classes_of_the_ipa() -> None:
    kinds = [broad_class(symbol, "ipa") for symbol in ("yː", "ɥ", "ɲ", "x", "t͡s", "ɡ", "r", "ʔ", "˥˩")]
    assert kinds == ["vowel", "approximant", "nasal", "fricative", "affricate", "stop", "approximant", "stop", "other"]


def test_characters_that_are_none_of_the_ipa_are_told() -> None:
    assert [passed_over(phone) for phone in ("t͡ʃ", "ˈaɪ", "nʲ", "ɚ", "")] == [""] * 5
    assert passed_over("tS;") == "S;"
    assert segments("tS;") == segments("t")
    assert passed_over("ʰ") == "ʰ"  # of no letter
