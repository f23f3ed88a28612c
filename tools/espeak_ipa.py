"""Write `w2v_abx/corpora/espeak/ipa.json`: eSpeak's phones in the International Phonetic Alphabet, by language.

    python tools/espeak_ipa.py

Run it after tools/espeak_phones.py. Each phone is read to the installed eSpeak alone and in pseudo-words, and it says
what it calls it, by mnemonic and in the IPA. Languages of which it writes a phone in no letters of the IPA, or speaks
one that it does not write, are left out.
"""

import json
from itertools import product
from unicodedata import category

import numpy as np

from w2v_abx.corpora.espeak.ipa import FILE
from w2v_abx.corpora.espeak.library import Synthesiser
from w2v_abx.corpora.espeak.words import free, inventory
from w2v_abx.heads.phonology import segments

# Without tones, which eSpeak writes in no letters of the IPA.
LANGUAGES = """
    af bg bs ca cs cy da de el en-us eo es et eu fi fr ga hr hu id is it ka lt lv mk ms nb nl pl pt ro sk sl sq sv sw tr
    uk uz
""".split()  # noqa: SIM905
UTTERANCES, WORDS = 400, 6
MARKS = "',%=ˈˌ"


def ipa_of(language: str) -> dict[str, str] | None:
    """What each mnemonic is in the IPA; None where one is in no letters of it."""
    phones, synthesiser = inventory(language), Synthesiser()
    consonants, vowels = phones.consonants, (*phones.vowels, *phones.reduced)
    texts = [
        f"{consonant}|'{vowel}|{consonant}|{vowel}|{consonant}" for consonant, vowel in product(consonants, vowels)
    ]
    generator = np.random.default_rng(0)
    for _ in range(UTTERANCES):
        texts.append(" ".join(word.mnemonics(language) for word in free(language, WORDS, generator)))
    synthesiser.speak(language, "")  # from here on it reads phonemes
    found: dict[str, str] = {}
    for text in [*phones.nuclei, *consonants, *texts]:
        mnemonics, letters = (
            [symbol.lstrip(MARKS) for symbol in say(language, f"[[{text}]]") if not symbol.startswith("_")]
            for say in (synthesiser.transcribe, synthesiser.pronounce)
        )
        if len(mnemonics) == len(letters):
            found |= dict(zip(mnemonics, letters, strict=True))
    found.pop("", None)
    spoken = {phone.symbol for text in texts for phone in synthesiser.speak(language, text).phones(phones.nuclei)}
    return dict(sorted(found.items())) if spoken <= set(found) and all(map(_is_ipa, found.values())) else None


def _is_ipa(text: str) -> bool:
    """Whether it is letters and diacritics alone; eSpeak writes what it has no letter for as its mnemonic."""
    return bool(segments(text)) and all(category(character)[0] in "LM" for character in text)


def main() -> None:
    made = {language: ipa_of(language) for language in LANGUAGES}
    lines = [f"{json.dumps(language)}: {json.dumps(ipa, ensure_ascii=False)}" for language, ipa in made.items() if ipa]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
