"""Write `w2v_abx/corpora/espeak/phones.json`: the phones of each language, from the files of the installed eSpeak.

    python tools/espeak_phones.py

Run it when the version of espeakng-loader changes. Phones are counted in the pronunciations that a language's compiled
dictionary lists, and told apart by eSpeak's compiled phoneme tables. Languages whose dictionaries list too few, or are
missing, are left out.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from w2v_abx.corpora.espeak.library import Synthesiser, data_folder
from w2v_abx.corpora.espeak.words import FILE, Inventory

__all__ = ["languages", "phones_of"]

# phonindex types and flags (eSpeak NG, phoneme.h)
_VOWEL, _SEGMENTS = 2, range(2, 9)  # after the vowels: liquids, stops, fricatives, nasals
_UNSTRESSED, _NON_SYLLABIC = 0x2, 0x100000
_SWITCH = 21  # to another language, whose name follows
# dictionaries (compiledict.c)
_HASHES = 1024
_NOT_PHONES = ("*", "?", "t#")  # flaps and glottal stops come out of other phones
_RARE = 1000  # abbreviations, loans and foreign letters: rarer than one in so many phones
_RARE_AT_EDGE = 200
_CHARACTER_DICTIONARIES = ("cmn", "yue")  # give pinyin and the like, not phonemes
_TEXT = 29  # "read it as if it were spelt so"


@dataclass(frozen=True)
class _Phoneme:
    symbol: str
    type: int
    flags: int


def _is_syllabic(symbol: str, known: dict[str, "_Phoneme"]) -> bool:
    """A consonant that is a syllable by itself: ``n-``, counted among the vowels."""
    plain = known.get(symbol.removesuffix("-"))
    return symbol.endswith("-") and plain is not None and plain.type != _VOWEL


def languages() -> dict[str, Path]:
    """The voice file of each language that eSpeak speaks, by its name in lower case."""
    paths = (path for path in (data_folder() / "lang").rglob("*") if path.is_file())
    return dict(sorted((path.name.lower(), path) for path in paths))


def phones_of(language: str) -> Inventory | None:
    """A language's phones, as far as its dictionary tells them."""
    table_name, dictionary = _tables(language)
    table, path = _phoneme_tables().get(table_name), data_folder() / f"{dictionary}_dict"
    if table is None or not path.is_file():
        return None
    known = {phone.symbol: phone for phone in table.values()}
    if dictionary in _CHARACTER_DICTIONARIES:
        spellings = _readings(language, path)
    else:
        spellings = [[table[code].symbol for code in codes if code in table] for _, codes in _entries(path)]
    counts, initials, finals = Counter[str](), Counter[str](), Counter[str]()
    for spelling in spellings:
        segments = [symbol for symbol in spelling if symbol in known and known[symbol].type in _SEGMENTS]
        counts.update(segments)
        initials.update(segments[:1])
        if len(segments) > 1 and known[segments[-1]].type != _VOWEL:
            finals[segments[-1]] += 1
    ranked = [symbol for symbol, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    plain = [
        known[symbol]
        for symbol in ranked
        if counts[symbol] * _RARE >= counts.total() and not _is_syllabic(symbol, known) and symbol not in _NOT_PHONES
    ]
    vowels = [phone for phone in plain if phone.type == _VOWEL and not phone.flags & _NON_SYLLABIC]
    consonants = tuple(phone.symbol for phone in plain if phone.type != _VOWEL)
    if len(consonants) < 2 or len(plain) - len(consonants) < 2:
        return None
    return Inventory(
        consonants=consonants,
        vowels=tuple(phone.symbol for phone in vowels if not phone.flags & _UNSTRESSED),
        reduced=tuple(phone.symbol for phone in vowels if phone.flags & _UNSTRESSED),
        onsets=tuple(symbol for symbol in consonants if initials[symbol] * _RARE_AT_EDGE >= initials.total()),
        codas=tuple(symbol for symbol in consonants if finals[symbol] * _RARE_AT_EDGE >= max(1, finals.total())),
        nuclei=tuple(sorted({phone.symbol for phone in table.values() if phone.type == _VOWEL})),
    )


def _tables(language: str) -> tuple[str, str]:
    """Names of the phoneme table and the dictionary of a language, by its voice file."""
    keys: dict[str, str] = {}
    for line in languages()[language].read_text(encoding="latin-1").splitlines():
        words = line.split()
        if len(words) > 1:
            keys.setdefault(words[0], words[1])
    base = keys.get("language", language).split("-")[0]
    return keys.get("phonemes", base), keys.get("dictionary", base)


@cache
def _phoneme_tables() -> dict[str, dict[int, _Phoneme]]:
    """Phonemes by code, by table. A table holds what differs from that which it includes (phontab: compiledata.c)."""
    data = (data_folder() / "phontab").read_bytes()
    own: list[dict[int, _Phoneme]] = []
    names: list[str] = []
    includes: list[int] = []
    position = 4
    for _ in range(data[0]):
        count, include = data[position], data[position + 1]
        names.append(data[position + 4 : position + 36].split(b"\0")[0].decode())
        includes.append(include)
        position += 36
        phonemes = {}
        for at in range(position, position + 16 * count, 16):
            symbol = data[at : at + 4].rstrip(b"\0").decode("latin-1")
            flags, code, type_ = int.from_bytes(data[at + 4 : at + 8], "little"), data[at + 10], data[at + 11]
            if symbol:
                phonemes[code] = _Phoneme(symbol, type_, flags)
        own.append(phonemes)
        position += 16 * count
    whole: list[dict[int, _Phoneme]] = []
    for include, phonemes in zip(includes, own, strict=True):
        whole.append((whole[include - 1] if include else {}) | phonemes)
    return dict(zip(names, whole, strict=True))


def _entries(path: Path) -> list[tuple[bytes, bytes]]:
    """(word, phoneme codes) of what a compiled dictionary lists with its pronunciation (compiledict.c)."""
    data = path.read_bytes()
    position, found = 8, []
    for _ in range(_HASHES):
        while length := data[position]:
            word = data[position + 1]
            if not word & 0x80:
                begin = position + 2 + (word & 0x3F)
                codes, _, marks = data[begin : position + length].partition(b"\0")
                if _TEXT not in marks and _SWITCH not in codes:  # both hold letters where phonemes would be
                    found.append((data[position + 2 : begin], codes))
            position += length
        position += 1
    return found


def _readings(language: str, path: Path) -> list[list[str]]:
    """What eSpeak reads for each character of the first CJK block that a dictionary lists, tones left off."""
    characters = sorted({word.decode() for word, _ in _entries(path) if b"\xe4\xb8\x80" <= word <= b"\xe9\xbf\xbf"})
    synthesiser = Synthesiser()
    said = [synthesiser.transcribe(language, character) for character in characters]
    return [[symbol.lstrip("',%=").rstrip("0123456789") for symbol in symbols] for symbols in said]


def main() -> None:
    """Write the file, a language a line."""
    found = {language: phones for language in languages() if (phones := phones_of(language))}
    lines = [
        f"{json.dumps(language)}: {json.dumps({key: ' '.join(symbols) for key, symbols in vars(phones).items()})}"
        for language, phones in found.items()
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{FILE}: {len(found)} languages, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
