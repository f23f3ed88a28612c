"""Align transcripts to their references, and count the edits."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import jiwer
import numpy as np

__all__ = ["NOTHING", "Edits", "Pair", "align", "count", "published_cer", "words"]

Pair = tuple[str | None, str | None]  # a reference's symbol (None: inserted) and the hypothesis's (None: deleted)
NOTHING = "–"  # how it is shown that a symbol was put in, or left out
_BETWEEN = "\x1f"  # a unit separator, which is in no symbol: jiwer takes texts, and symbols may be spaces
_SYMBOLS = jiwer.Compose([jiwer.ReduceToListOfListOfWords(word_delimiter=_BETWEEN)])


class Edits(NamedTuple):
    """How many symbols of references were found, replaced or left out, and how many put in."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def symbols(self) -> int:
        """Count the references' symbols."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float | None:
        """Divide the errors by the references' symbols; None: there are none."""
        return self.errors / self.symbols if self.symbols else None


def align(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> list[list[Pair]]:
    """Align sequences of symbols, each of any length, with the fewest edits (Levenshtein), by jiwer."""
    if not references:
        return []
    found = jiwer.process_words(
        [_BETWEEN.join(symbols) for symbols in references],
        [_BETWEEN.join(symbols) for symbols in hypotheses],
        reference_transform=_SYMBOLS,
        hypothesis_transform=_SYMBOLS,
    )
    aligned: list[list[Pair]] = []
    for reference, hypothesis, chunks in zip(references, hypotheses, found.alignments, strict=True):
        pairs: list[Pair] = []
        for chunk in chunks:
            left = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            right = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
            size = max(len(left), len(right))
            pairs += zip([*left, *[None] * (size - len(left))], [*right, *[None] * (size - len(right))], strict=True)
        aligned.append(pairs)
    return aligned


def count(pairs: Iterable[Pair]) -> Edits:
    """Count the edits of aligned symbols."""
    hits = substitutions = deletions = insertions = 0
    for reference, hypothesis in pairs:
        if reference is None:
            insertions += 1
        elif hypothesis is None:
            deletions += 1
        elif reference == hypothesis:
            hits += 1
        else:
            substitutions += 1
    return Edits(hits, substitutions, deletions, insertions)


def words(characters: Sequence[str]) -> list[str]:
    """Join characters to the words between spaces."""
    return "".join(characters).split()


def published_cer(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> float | None:
    """Compute the character error rate as the code of github.com/asadullah797/ssl-semi-multitask does; no standard one.

    Spaces are left out, then repeated letters joined, also across words, and the last one dropped, on both sides; the
    rates are averaged over utterances, one whose reference has two letters or fewer then counting as 0.
    """
    without = ([[s for s in text if s != " "] for text in side] for side in (references, hypotheses))
    sides = [[[s for s, _ in groupby(text)][:-1] for text in side] for side in without]
    rates = [found.errors / found.symbols if found.symbols > 2 else 0.0 for found in map(count, align(*sides))]
    return float(np.mean(rates)) if rates else None
