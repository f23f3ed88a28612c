import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.heads.edits import Edits, align, count, published_cer, words

SYMBOLS = st.lists(st.sampled_from(["a", "aa", "ih", " ", "sil"]), max_size=7)


def distance(reference: list[str], hypothesis: list[str]) -> int:
    """The textbook's table."""
    table = np.zeros((len(reference) + 1, len(hypothesis) + 1), dtype=int)
    table[:, 0], table[0] = np.arange(len(reference) + 1), np.arange(len(hypothesis) + 1)
    for i, left in enumerate(reference, 1):
        for j, right in enumerate(hypothesis, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (left != right))
    return int(table[-1, -1])


@given(st.lists(st.tuples(SYMBOLS.filter(bool), SYMBOLS), max_size=4))
def test_edits_are_the_fewest_and_the_pairs_spell_both_sides(utterances: list[tuple[list[str], list[str]]]) -> None:
    aligned = align([r for r, _ in utterances], [h for _, h in utterances])
    for (reference, hypothesis), pairs in zip(utterances, aligned, strict=True):
        assert [left for left, _ in pairs if left is not None] == reference
        assert [right for _, right in pairs if right is not None] == hypothesis
        edits = count(pairs)
        assert (edits.errors, edits.symbols) == (distance(reference, hypothesis), len(reference))


def test_symbols_of_two_letters_are_one_symbol_each() -> None:
    # By letters, "sh" for "s" would be a half error and "iy ih" for "ih" other edits than these.
    (pairs,) = align([["sh", "iy", "hh", "ae", "d"]], [["s", "iy", "ae", "ae", "d", "sil"]])
    assert count(pairs) == Edits(hits=3, substitutions=2, deletions=0, insertions=1)
    assert count(pairs).rate == pytest.approx(3 / 5)


def test_rates_of_text_equal_jiwer() -> None:
    references, hypotheses = ["she had your dark suit", "ask me"], ["he had a dark suit in", "asme"]
    sides = [list(text) for text in references], [list(text) for text in hypotheses]
    pairs = [pair for found in align(*sides) for pair in found]
    assert count(pairs).rate == pytest.approx(jiwer.cer(references, hypotheses))
    of_words = [pair for found in align(*([words(text) for text in side] for side in sides)) for pair in found]
    assert count(of_words).rate == pytest.approx(jiwer.wer(references, hypotheses))


def test_the_published_rate_by_hand() -> None:
    # "hello you" -> h e l o y o [u]; "hallo" -> h a l [o]: one replaced, three left out of six
    assert published_cer([list("hello you")], [list("hallo")]) == pytest.approx(4 / 6)
    # Letters are joined across words: "its slow" -> i t s l o [w]; "it low" -> i t l o [w]
    assert published_cer([list("its slow")], [list("it low")]) == pytest.approx(1 / 5)
    # what is left of a short reference counts as right: "abc" -> a b [c]
    assert published_cer([list("hello you"), list("abc")], [list("hallo"), list("xyz")]) == pytest.approx(4 / 12)
    assert published_cer([], []) is None


def test_nothing_is_aligned_to_nothing() -> None:
    assert align([], []) == []
    assert count([]).rate is None
