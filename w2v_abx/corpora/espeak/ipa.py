"""eSpeak's phones in the International Phonetic Alphabet."""

import json
from functools import cache
from pathlib import Path

from w2v_abx.system.checks import choice

__all__ = ["FILE", "ipa_of"]

FILE = Path(__file__).with_name("ipa.json")  # made by tools/espeak_ipa.py


@cache
def ipa_of(key: str, language: str) -> dict[str, str]:
    """Return what each mnemonic of a language is in the IPA.

    Raises:
        InputError: eSpeak does not write all its phones in the IPA; ``key`` is the setting that names the language.
    """
    known = json.loads(FILE.read_text(encoding="utf-8"))
    choice(key, language, known, hint="of no other language does eSpeak write every phone in the IPA")
    return known[language]
