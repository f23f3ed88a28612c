"""A language's phones, and pseudo-words of them: a balanced grid for discrimination, or free syllables for training."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from w2v_abx.corpora.espeak.library import Synthesiser
from w2v_abx.errors import InputError
from w2v_abx.system.checks import choice, fail, number, whole

__all__ = ["FILE", "TONES", "Inventory", "Skew", "Word", "balanced", "free", "inventory", "lexical"]

FILE = Path(__file__).with_name("phones.json")  # made by tools/espeak_phones.py

# Tone categories (1 to 4, 5 neutral) and the mnemonics of their contours.
TONES = {"cmn": {"1": "55", "2": "35", "3": "214", "4": "51", "5": "11"}}


@dataclass(frozen=True)
class Inventory:
    """Mnemonics that the dictionary of a language uses, most frequent first.

    ``vowels`` can bear stress, ``reduced`` cannot; ``onsets`` and ``codas`` are consonants that begin and end words.
    ``nuclei``: every vowel, syllabic consonants among them, that the language's rules may put in another's place.
    """

    consonants: tuple[str, ...]
    onsets: tuple[str, ...]
    vowels: tuple[str, ...]
    reduced: tuple[str, ...]
    codas: tuple[str, ...]
    nuclei: tuple[str, ...]


@cache
def inventory(language: str) -> Inventory:
    """Read a language's phones. Raises `InputError` for one that eSpeak lacks, or whose dictionary lists too few."""
    phones = json.loads(FILE.read_text(encoding="utf-8"))
    choice("corpus.language", language, phones, hint="of no other language do eSpeak's dictionaries tell the phones")
    return Inventory(**{key: tuple(symbols.split()) for key, symbols in phones[language].items()})


@dataclass(frozen=True)
class Word:
    """Syllables of (onset, vowel, coda or "", tone or ""), of which the first is stressed; or a word of the language.

    Of a word of the language, ``spelling`` is how it is written and ``spoken`` how eSpeak reads it.
    """

    syllables: tuple[tuple[str, str, str, str], ...] = ()
    spelling: str = ""
    spoken: str = ""

    def written(self, language: str) -> str:
        """As it is spelt; pseudo-words as eSpeak reads them."""
        return self.spelling or self.mnemonics(language)

    def with_tones(self, language: str, repetition: int) -> "Word":
        """The same word with the tones of a repetition: four of them bring every tone to its first syllable."""
        tones = _tones(language)
        start = sum(tones.index(tone) for *_, tone in self.syllables[:1] if tone) + repetition
        return Word(
            tuple(
                (onset, vowel, coda, tones[(start + place) % len(tones)])
                for place, (onset, vowel, coda, _) in enumerate(self.syllables)
            )
        )

    def mnemonics(self, language: str) -> str:
        """As eSpeak reads it."""
        if self.spoken:
            return self.spoken
        stress = "'"
        parts = []
        for onset, vowel, coda, tone in self.syllables:
            contour = TONES[language][tone] if tone else ""
            parts += [onset, f"{stress}{vowel}{contour}", coda]
            stress = ""
        return "|".join(part for part in parts if part)


def _tones(language: str) -> tuple[str, ...]:
    """The full tones; none is one of no name."""
    return tuple(TONES.get(language, {"": ""}))[:4]


@cache
def balanced(language: str, consonants: int, vowels: int) -> tuple[Word, ...]:
    """Words c V C v in which every vowel V stands beside every consonant C.

    c depends on C alone and v on V alone, so that all vowels share the context c_C of each C and all consonants share
    the context V_v of each V: one word serves both. The phones are the language's most frequent of those that eSpeak
    speaks as themselves in every such place. Raises InputError where it has fewer than asked.
    """
    phones = inventory(language)
    whole("corpus.consonants", consonants, 2, len(phones.onsets), hint=f"only these begin words of {language}")
    whole("corpus.vowels", vowels, 2, len(phones.vowels), hint=f"only these bear stress in {language}")
    steady_consonants, steady_vowels = _steady(language, phones, consonants, vowels)
    words = []
    for index, vowel in enumerate(steady_vowels):
        for place, consonant in enumerate(steady_consonants):
            first = steady_consonants[(place + len(steady_consonants) // 2) % len(steady_consonants)]
            last = steady_vowels[(index + len(steady_vowels) // 2) % len(steady_vowels)]
            words.append(Word(((first, vowel, "", ""), (consonant, last, "", ""))).with_tones(language, index + place))
    return tuple(words)


def _steady(language: str, phones: Inventory, consonants: int, vowels: int) -> tuple[list[str], list[str]]:
    """The most frequent phones that come out of eSpeak's allophone rules as one symbol, each its own."""
    some_consonants, some_vowels = list(phones.onsets[: 2 * consonants]), list(phones.vowels[: 2 * vowels])
    synthesiser = Synthesiser()

    @cache
    def spoken(vowel: str, consonant: str) -> list[str]:
        speech = synthesiser.speak(language, f"{consonant}|'{vowel}|{consonant}|{vowel}")
        return [phone.symbol for phone in speech.phones(phones.nuclei)]

    while True:
        strays: Counter[tuple[int, str]] = Counter()
        for vowel, consonant in product(some_vowels[:vowels], some_consonants[:consonants]):
            said = spoken(vowel, consonant)
            merged = len(said) != 4
            strays.update([(0, vowel)] * (merged or said[1] != vowel))
            strays.update([(1, consonant)] * (merged or said[2] != consonant))
        if not strays:
            break
        kind, worst = max(strays, key=lambda phone: (strays[phone], phone))
        (some_vowels, some_consonants)[kind].remove(worst)
    if len(some_consonants) < consonants or len(some_vowels) < vowels:
        raise InputError(
            f"corpus.consonants={consonants}, corpus.vowels={vowels}: eSpeak speaks "
            f"only {len(some_consonants[:consonants])} and "
            f"{len(some_vowels[:vowels])} of {language}'s most frequent ones as themselves; ask for no more than these"
        )
    return some_consonants[:consonants], some_vowels[:vowels]


@dataclass(frozen=True)
class Skew:
    """Which phones are common: probabilities fall with the rank to the power of ``slope``, in an order by ``seed``.

    Raises:
        InputError: a value out of range.
    """

    slope: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        number("corpus.skew.slope", self.slope, low=0)
        whole("corpus.skew.seed", self.seed, 0)

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> "Skew | None":
        """Read the settings; None: phones are as common as the language has them."""
        if settings is None:
            return None
        if not isinstance(settings, Mapping) or not set(settings) <= {"slope", "seed"}:
            raise fail(
                "corpus.skew", settings, "a mapping of slope and seed, or null for phones as the language has them"
            )
        return cls(**settings)

    def order(self, symbols: Iterable[str]) -> list[str]:
        """Put the most common first; consonants have one order, wherever in a word."""
        return sorted(symbols, key=lambda symbol: hashlib.blake2b(f"{self.seed}/{symbol}".encode()).digest())


# Falling with the square root of the rank, so that rare phones stay frequent enough to be learnt.
SLOPE = 0.5


@cache
def _weights(count: int, slope: float) -> np.ndarray:
    weights = np.arange(1.0, count + 1) ** -slope
    return weights / weights.sum()


def free(language: str, count: int, generator: np.random.Generator, skew: Skew | None = None) -> list[Word]:
    """Words of one to three syllables CV or CVC over all phones, common ones more often."""
    phones = inventory(language)
    tones = _tones(language)

    def draw(symbols: tuple[str, ...]) -> str:
        ranked = skew.order(symbols) if skew else symbols
        return ranked[int(generator.choice(len(ranked), p=_weights(len(ranked), skew.slope if skew else SLOPE)))]

    words = []
    for _ in range(count):
        syllables = []
        for place in range(int(generator.integers(1, 4))):
            vowel = draw(phones.vowels + phones.reduced if place else phones.vowels)
            coda = draw(phones.codas) if phones.codas and generator.random() < 0.3 else ""
            syllables.append((draw(phones.onsets), vowel, coda, str(generator.choice(tones))))
        words.append(Word(tuple(syllables)))
    return words


@cache
def lexical(language: str, spellings: tuple[str, ...]) -> tuple[Word, ...]:
    """Pronounce words as the language spells them. Raises InputError for one that eSpeak reads as none or several."""
    synthesiser = Synthesiser()
    words = []
    for spelling in spellings:
        said = [symbol for symbol in synthesiser.transcribe(language, spelling) if not symbol.startswith("_")]
        if not said or " " in spelling:
            raise InputError(f"corpus.lexicon: {spelling!r} is not one word that eSpeak can read")
        words.append(Word(spelling=spelling, spoken="|".join(said)))
    return tuple(words)
