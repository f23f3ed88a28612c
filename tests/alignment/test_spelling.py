"""What clips say, in the symbols of a model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from w2v_abx.alignment.spelling import Speller, Spelling
from w2v_abx.clips import Clip, Failure
from w2v_abx.errors import InputError


def speller(symbols: str, target: str, **settings: Any) -> Speller:
    model: Any = SimpleNamespace(symbols=symbols.split(), source="tiny")
    return Speller(model, target, **{"language": None, "lexicon": None, "unknown": "error", **settings})


def spelt(speller: Speller, **labels: Any) -> Spelling:
    spelling = speller.spell(Clip("k", Path("k.wav"), labels=labels))
    assert isinstance(spelling, Spelling)
    return spelling


def test_letters_in_the_case_that_the_model_knows() -> None:
    spelling = spelt(speller("A B ' Ä", "text"), text="Ab,  b'Ä!")
    assert spelling.tokens == spelling.phones == ["A", "B", "B", "'", "Ä"]
    assert spelling.words == [(0, 2, "Ab,"), (2, 5, "b'Ä!")]
    assert spelt(speller("a ß", "text"), text="Aß").tokens == ["a", "ß"]
    assert spelt(speller("ä", "text"), text="A\u0308").tokens == ["ä"]  # a letter and a combining mark


def test_a_symbol_that_the_model_does_not_know() -> None:
    said = Clip("k", Path("k.wav"), labels={"text": "ab7 7 b"})
    with pytest.raises(
        InputError, match=r"k: the model tiny does not know '7' \(its symbols are: a b\).*align\.unknown"
    ):
        speller("a b", "text").spell(said)
    skipped = speller("a b", "text", unknown="skip").spell(said)
    assert isinstance(skipped, Failure)
    assert skipped.reason == "unknown_symbol"
    dropped = spelt(speller("a b", "text", unknown="drop"), text="ab7 7 b")
    assert (dropped.tokens, dropped.words) == (["a", "b", "b"], [(0, 2, "ab7"), (2, 3, "b")])


@pytest.mark.parametrize("labels", [{}, {"text": ""}, {"text": " … !"}])
def test_clips_that_say_nothing(labels: dict[str, str]) -> None:
    found = speller("a b", "text").spell(Clip("k", Path("k.wav"), labels=labels))
    assert isinstance(found, Failure)
    assert found.reason == "no_text"


def test_words_by_a_lexicon(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(";;; comment\nhello\t0.9\t0.1\tHH AH L OW\nhello\tHH EH L OW\nworld  W ER L D\ndon't\tD OW N T\n")
    by_lexicon = speller("HH AH L OW W ER D N T", "lexicon", lexicon=path)
    spelling = spelt(by_lexicon, text="“Hello”, WORLD - don't")
    assert spelling.phones == ["HH", "AH", "L", "OW", "W", "ER", "L", "D", "D", "OW", "N", "T"]
    assert [word for *_, word in spelling.words] == ["“Hello”,", "WORLD", "don't"]
    with pytest.raises(InputError, match="does not know 'moon'"):
        spelt(by_lexicon, text="hello moon")
    path.write_text("word\n")
    with pytest.raises(InputError, match=r"lexicon\.txt, line 1: 'word' is not a word and its phones"):
        speller("a", "lexicon", lexicon=path)
    with pytest.raises(InputError, match=r"align\.lexicon=.*none does not exist"):
        speller("a", "lexicon", lexicon=tmp_path / "none")
    with pytest.raises(InputError, match="belong together"):
        speller("a", "lexicon")


def test_words_by_espeak() -> None:
    phones = "ð ə θ ɹ iː tʃ ɑːɹ dʒ d z"
    spelling = spelt(speller(phones, "espeak", language="en-us"), text="the - three, charged!")
    assert spelling.phones == ["ð", "ə", "θ", "ɹ", "iː", "tʃ", "ɑːɹ", "dʒ", "d"]
    assert [(first, end) for first, end, _ in spelling.words] == [(0, 2), (2, 5), (5, 9)]
    with pytest.raises(InputError, match="align.language"):
        speller(phones, "espeak")


@pytest.mark.parametrize(
    ("symbols", "tokens", "phones"),
    [
        ("n ǐ i3 h ao3 l v4 s e4", "n i3 h ao3 l v4 s e4", "n i h ao l v s e"),
        ("n i h ao l ü s e", "n i h ao l ü s e", "n i h ao l v s e"),
        ("ni3 hao3 lv4 se4", "ni3 hao3 lv4 se4", "ni hao lv se"),
        ("你 好 绿 色", "你 好 绿 色", "ni hao lv se"),
    ],
)
def test_mandarin_in_whatever_symbols_the_model_has(symbols: str, tokens: str, phones: str) -> None:
    spelling = spelt(speller(symbols, "pinyin"), text="你好, 绿色")
    assert (spelling.tokens, spelling.phones) == (tokens.split(), phones.split())
    size = len(spelling.tokens) // 4
    assert spelling.tones == [(n * size, (n + 1) * size, tone) for n, tone in enumerate("3344")]
    assert [(first, end) for first, end, _ in spelling.words] == [(0, 2 * size), (2 * size, 4 * size)]


def test_mandarin_characters_that_have_no_reading_or_no_symbols() -> None:
    with pytest.raises(InputError, match="does not know 'B'"):
        spelt(speller("你", "pinyin"), text="你B")
    with pytest.raises(InputError, match="does not know '好'"):
        spelt(speller("你", "pinyin"), text="你好")
    assert spelt(speller("你", "pinyin", unknown="drop"), text="B你好").tokens == ["你"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("sil a b | b sil", ["x", "y"]),
        (["sil", "a", "b", "|", "b"], ["x", "y"]),
        ([[0, 1, "sil"], [1, 2, "a"], [2, 3, "b"], [3, 4, "b"]], []),
    ],
)
def test_a_label_that_holds_phones(said: Any, words: list[str]) -> None:
    spelling = spelt(speller("a b", "pronunciation"), pronunciation=said, text="x y")
    assert spelling.tokens == ["a", "b", "b"]
    assert [word for *_, word in spelling.words] == words
    with pytest.raises(InputError, match="holds no phones but 3"):
        spelt(speller("a b", "pronunciation"), pronunciation=3)
