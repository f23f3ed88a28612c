"""Pseudo-words: a balanced grid for discrimination, or free syllables for training."""

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from w2v_abx.corpora.espeak.alignment import phone_times
from w2v_abx.corpora.espeak.inventory import TONES, Inventory, inventory
from w2v_abx.corpora.espeak.library import Synthesiser
from w2v_abx.errors import InputError
from w2v_abx.system.checks import whole

__all__ = ["Word", "balanced", "free"]


@dataclass(frozen=True)
class Word:
    """Syllables of (onset, vowel, coda or "", tone or ""); the first is stressed."""

    syllables: tuple[tuple[str, str, str, str], ...]

    def with_tones(self, language: str, turn: int) -> "Word":
        """The same word with the tones that are next in turn: four turns bring every tone to its first syllable."""
        tones = _tones(language)
        start = sum(tones.index(tone) for *_, tone in self.syllables[:1] if tone) + turn
        return Word(
            tuple(
                (onset, vowel, coda, tones[(start + place) % len(tones)])
                for place, (onset, vowel, coda, _) in enumerate(self.syllables)
            )
        )

    def mnemonics(self, language: str) -> str:
        """As eSpeak reads it."""
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
    """Words c V C v in which every vowel V meets every consonant C.

    c depends on C alone and v on V alone, so that all vowels share the context c_C of each C and all consonants share
    the context V_v of each V: one word serves both. The phones are the language's most frequent of those that eSpeak
    speaks as themselves in every such place. Raises InputError where it has fewer than asked.
    """
    phones = inventory(language)
    whole("corpus.consonants", consonants, 2, len(phones.onsets), hint=f"only these begin words of {language}")
    whole("corpus.vowels", vowels, 2, len(phones.vowels), hint=f"only these bear stress in {language}")
    kept_consonants, kept_vowels = _steady(language, phones, consonants, vowels)
    words = []
    for index, vowel in enumerate(kept_vowels):
        for place, consonant in enumerate(kept_consonants):
            first = kept_consonants[(place + len(kept_consonants) // 2) % len(kept_consonants)]
            last = kept_vowels[(index + len(kept_vowels) // 2) % len(kept_vowels)]
            words.append(Word(((first, vowel, "", ""), (consonant, last, "", ""))).with_tones(language, index + place))
    return tuple(words)


def _steady(language: str, phones: Inventory, consonants: int, vowels: int) -> tuple[list[str], list[str]]:
    """The most frequent phones that come out of eSpeak's allophone rules as one symbol, each its own."""
    some_consonants, some_vowels = list(phones.onsets[: 2 * consonants]), list(phones.vowels[: 2 * vowels])
    synthesiser = Synthesiser()
    spoken: dict[tuple[str, str], tuple[str, ...]] = {}
    while True:
        for vowel in some_vowels[:vowels]:
            for consonant in some_consonants[:consonants]:
                if (vowel, consonant) not in spoken:
                    speech = synthesiser.speak(language, f"{consonant}|'{vowel}|{consonant}|{vowel}")
                    spoken[vowel, consonant] = tuple(phone.symbol for phone in phone_times(speech, phones.nuclei))
        strays: Counter[tuple[int, str]] = Counter()
        for vowel in some_vowels[:vowels]:
            for consonant in some_consonants[:consonants]:
                said = spoken[vowel, consonant]
                if len(said) != 4:
                    strays.update([(0, vowel), (1, consonant)])
                else:
                    strays.update([(0, vowel)] * (said[1] != vowel) + [(1, consonant)] * (said[2] != consonant))
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


@cache
def _weights(count: int) -> np.ndarray:
    """Falling with the square root of the rank, so that rare phones stay frequent enough to be learnt."""
    weights = 1 / np.sqrt(np.arange(1, count + 1))
    return weights / weights.sum()


def free(language: str, count: int, generator: np.random.Generator) -> list[Word]:
    """Words of one to three syllables CV or CVC over all phones, common ones more often."""
    phones = inventory(language)
    tones = _tones(language)

    def draw(symbols: tuple[str, ...]) -> str:
        return symbols[int(generator.choice(len(symbols), p=_weights(len(symbols))))]

    words = []
    for _ in range(count):
        syllables = []
        for place in range(int(generator.integers(1, 4))):
            vowel = draw(phones.vowels + phones.reduced if place else phones.vowels)
            coda = draw(phones.codas) if phones.codas and generator.random() < 0.3 else ""
            syllables.append((draw(phones.onsets), vowel, coda, str(generator.choice(tones))))
        words.append(Word(tuple(syllables)))
    return words
