"""What phones have in common: phonological features of the IPA, distances by them, and broad phonetic classes."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

__all__ = [
    "CLASSES",
    "FILE",
    "Alphabet",
    "broad_class",
    "feature_distance",
    "features",
    "in_order",
    "passed_over",
    "segments",
    "to_ipa",
]

FILE = Path(__file__).with_name("ipa.json")  # made by tools/ipa_features.py
VALUES = {"+": 1, "0": 0, "-": -1}
TIES = str.maketrans("", "", "͜ˈˌ.‿")  # marks of no sound: stress, breaks; and the tie below, which is that above, too
Alphabet = Literal["ipa", "timit"]

# The order in which a confusion matrix has them.
CLASSES = ("vowel", "approximant", "nasal", "fricative", "affricate", "stop", "closure", "silence", "other")

# TIMIT's symbols in the IPA, after its PHONCODE.DOC and Keating et al. (1994); ARPAbet's are among them.
TIMIT = dict(
    pair.split(":")
    for pair in """
    aa:ɑ ae:æ ah:ʌ ao:ɔ aw:aʊ ax:ə ax-h:ə̥ axr:ɚ ay:aɪ b:b ch:t͡ʃ d:d dh:ð dx:ɾ eh:ɛ el:l̩ em:m̩ en:n̩ eng:ŋ̩ er:ɝ ey:eɪ
    f:f g:ɡ hh:h hv:ɦ ih:ɪ ix:ɨ iy:i jh:d͡ʒ k:k l:l m:m n:n ng:ŋ nx:ɾ̃ ow:oʊ oy:ɔɪ p:p q:ʔ r:ɹ s:s sh:ʃ t:t th:θ uh:ʊ
    uw:u ux:ʉ v:v w:w y:j z:z zh:ʒ
    """.split()  # noqa: SIM905
)
NO_PHONES = {
    **dict.fromkeys(("bcl", "dcl", "gcl", "pcl", "tcl", "kcl", "vcl", "cl"), "closure"),
    **dict.fromkeys(("sil", "h#", "pau", "epi", "sp", "spn", "SIL", "silence"), "silence"),
}
# Letters that PanPhon writes otherwise; eSpeak's ᵻ is a reduced ɨ.
SPELT = {"ɚ": "ə˞", "ɝ": "ɜ˞", "g": "ɡ", "ᵻ": "ɨ"}
GLOTTAL = {"h": "fricative", "ɦ": "fricative", "ʔ": "stop"}  # sonorants by their features


@cache
def _table() -> tuple[list[str], dict[str, str], dict[str, dict[str, str]]]:
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return content["features"], content["letters"], content["diacritics"]


def to_ipa(symbol: str, alphabet: Alphabet) -> str:
    """Write a phone in the IPA; "" for a closure, a silence or a symbol that is unknown."""
    if symbol in NO_PHONES:
        return ""
    return TIMIT.get(symbol, "") if alphabet == "timit" else symbol


def features() -> list[str]:
    """Name the features of a segment, as PanPhon does, in their order."""
    return list(_table()[0])


def segments(ipa: str) -> tuple[tuple[int, ...], ...]:
    """Take a phone apart into its segments' features, each 1, 0 or -1; a diphthong has two, "" none.

    Characters that are neither letters nor known diacritics of the IPA are passed over; see `passed_over`.
    """
    return _taken_apart(ipa)[0]


def passed_over(ipa: str) -> str:
    """Give the characters of a phone that are none of the IPA, such as a capital letter."""
    return _taken_apart(ipa)[1]


@cache
def _taken_apart(ipa: str) -> tuple[tuple[tuple[int, ...], ...], str]:
    features, letters, diacritics = _table()
    text = normalize("NFD", "".join(SPELT.get(letter, letter) for letter in ipa)).translate(TIES)
    found: list[dict[str, str]] = []
    unknown = ""
    place, longest = 0, max(map(len, letters))
    while place < len(text):
        size = next((n for n in range(longest, 0, -1) if text[place : place + n] in letters), 0)
        if size:
            found.append(dict(zip(features, letters[text[place : place + size]], strict=True)))
        elif found and text[place] in diacritics:
            found[-1] |= diacritics[text[place]]
        else:
            unknown += text[place]
        place += size or 1
    return tuple(tuple(VALUES[values[name]] for name in features) for values in found), unknown


def broad_class(symbol: str, alphabet: Alphabet) -> str:
    """Say which of `CLASSES` a phone belongs to; a diphthong to that of its first segment."""
    if symbol in NO_PHONES:
        return NO_PHONES[symbol]
    ipa = to_ipa(symbol, alphabet)
    found = segments(ipa)
    if not found:
        return "other"
    has = dict(zip(_table()[0], found[0], strict=True))
    truths = {
        "other": not has["cons"],  # a tone
        "vowel": has["syl"] > 0 > has["cons"],
        "nasal": has["nas"] > 0,
        GLOTTAL.get(ipa[0], ""): ipa[0] in GLOTTAL,
        "approximant": has["son"] > 0,  # taps and trills among them
        "fricative": has["cont"] > 0,
        "affricate": has["delrel"] > 0,
    }
    kind = next((name for name, true in truths.items() if true), "stop")
    if kind == "stop" and len(found) > 1:  # a stop and its fricative, written without a tie
        after = dict(zip(_table()[0], found[1], strict=True))
        kind = "affricate" if after["cont"] > 0 > after["son"] else kind
    return kind


def in_order(symbols: Iterable[str], kind: Callable[[str], str]) -> list[str]:
    """Order symbols by their class, in the order of `CLASSES`, and then by name."""
    places = {name: place for place, name in enumerate(CLASSES)}
    return sorted(symbols, key=lambda symbol: (places.get(kind(symbol), 0), symbol))


def feature_distance(reference: Sequence[tuple[int, ...]], hypothesis: Sequence[tuple[int, ...]]) -> float:
    """Compute the edit distance of two sequences of segments, each edit weighed by the features that it changes.

    A segment put in or left out costs 1, one replaced the share of its features that differ (PanPhon's
    ``hamming_feature_edit_distance``).
    """
    if not reference or not hypothesis:
        return float(max(len(reference), len(hypothesis)))
    left, right = np.array(reference), np.array(hypothesis)
    differ: npt.NDArray[np.float64] = (left[:, None] != right[None]).mean(-1)
    costs = [float(place) for place in range(len(right) + 1)]
    for number, substitutions in enumerate(differ.tolist(), 1):
        above, costs = costs, [float(number)]
        for place, substitution in enumerate(substitutions):
            costs.append(min(above[place + 1] + 1, costs[place] + 1, above[place] + substitution))
    return costs[-1]
