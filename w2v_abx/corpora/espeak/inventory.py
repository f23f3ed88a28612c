"""A language's own phones, as eSpeak's files tell them."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from w2v_abx.system.checks import choice

__all__ = ["FILE", "TONES", "Inventory", "inventory"]

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
