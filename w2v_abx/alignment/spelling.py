"""What a clip says, in the symbols of a CTC model."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from w2v_abx.alignment.ctc import CtcModel
from w2v_abx.clips import Clip, Failure
from w2v_abx.corpora.espeak.library import Synthesiser
from w2v_abx.corpora.tables import parse_lines
from w2v_abx.errors import InputError
from w2v_abx.items.files import SILENCES
from w2v_abx.system.checks import choice
from w2v_abx.system.extras import extra
from w2v_abx.system.text import nfc

__all__ = ["UNKNOWN", "Speller", "Spelling"]

UNKNOWN = ("error", "skip", "drop")
WORD = "|"  # between the words of a label that holds phones
STRESS = str.maketrans("", "", "ˈˌ")


@dataclass
class Spelling:
    """The symbols of a clip in order: the model's token and the phone that it stands for.

    ``words`` and ``tones`` are the texts, and of each the places of its first symbol and after its last.
    """

    tokens: list[str] = field(default_factory=list)
    phones: list[str] = field(default_factory=list)
    words: list[tuple[int, int, str]] = field(default_factory=list)
    tones: list[tuple[int, int, str]] = field(default_factory=list)


class Unknown(Exception):
    """A symbol that the model does not know."""


class Speller:
    """From the labels of a clip to the symbols of ``model``.

    - ``target="text"``: the letters of the label ``text``, in the case that the model knows; a letter stands for
      itself. Punctuation that the model does not know is passed over.
    - ``target="espeak"``: eSpeak's pronunciation of the text in ``language``, in IPA without stress marks, as the
      models fine-tuned on such phonemes have it (Xu et al., 2022, arXiv:2109.11680).
    - ``target="lexicon"``: that of each word in the file ``lexicon``: word, tab or space, phones separated by spaces;
      of several pronunciations the first. Columns of probabilities (MFA's dictionaries) are passed over.
    - ``target="pinyin"``: Mandarin syllables of the text by pypinyin, as the model has them: the Chinese character
      itself, the syllable with its tone (``ni3``) or without, or initial and final with or without. The phones are
      initials and finals, or whole syllables where the model has no smaller symbols; the tones become tones.
    - ``target=LABEL``: a label that holds phones, as a list of symbols or intervals, or as text with spaces between
      phones and ``|`` between words. Silence is passed over.

    ``unknown``, a symbol that the model does not know, is an "error", makes the clip be left out ("skip") or is left
    out itself ("drop"), which ``dropped`` counts.

    Raises:
        InputError: a setting does not fit, or the lexicon cannot be read.
    """

    def __init__(
        self, model: CtcModel, target: str, *, language: str | None, lexicon: Path | str | None, unknown: str
    ) -> None:
        choice("align.unknown", unknown, UNKNOWN)
        if target == "espeak" and not language:
            raise InputError("align.target=espeak needs align.language, such as en-us")
        if (target == "lexicon") != (lexicon is not None):
            raise InputError("align.target=lexicon and align.lexicon=FILE belong together: give both or neither")
        self.model, self.target, self.unknown = model, target, unknown
        self.language = language
        self.known = frozenset(model.symbols)
        self.dropped: Counter[str] = Counter()
        self.lexicon = _read_lexicon(Path(lexicon).expanduser()) if lexicon is not None else {}
        self.ways: dict[str, Callable[[str], Iterable[tuple[list[str], list[str], str]]]] = {
            "text": self._letters,
            "espeak": self._espeak,
            "lexicon": self._looked_up,
            "pinyin": self._syllables,
        }

    def spell(self, clip: Clip) -> Spelling | Failure:
        """Its symbols, or the reason why there are none: no_text or unknown_symbol.

        Raises:
            InputError: the clip holds an unknown symbol, where that is an error.
        """
        label = "text" if self.target in self.ways else self.target
        said = clip.labels.get(label)
        if not said:
            return Failure("no_text", f"{clip.key} has no label {label!r} to align")
        spelling = Spelling()
        words = nfc(str(said)).split() if self.target in self.ways else _words_of_label(clip, label, said)
        named = self.target in self.ways or len(words) > 1
        texts = nfc(str(clip.labels.get("text", ""))).split()
        for place, word in enumerate(words):
            first = len(spelling.tokens)
            try:
                self._spell_word(word, spelling)
            except Unknown as unknown:
                message = (
                    f"{clip.key}: the model {self.model.source} does not know {unknown.args[0]!r} (its symbols are: "
                    f"{' '.join(self.model.symbols)[:300]})"
                )
                if self.unknown == "skip":
                    return Failure("unknown_symbol", message)
                raise InputError(
                    f"{message}; choose another model or align.target, or set align.unknown to skip such clips or drop "
                    "such symbols"
                ) from None
            if len(spelling.tokens) > first and named:
                name = word if isinstance(word, str) else texts[place] if len(texts) == len(words) else " ".join(word)
                spelling.words.append((first, len(spelling.tokens), name))
        if not spelling.tokens:
            return Failure("no_text", f"{clip.key}: nothing in its label {label!r} can be aligned")
        return spelling

    def _spell_word(self, word: str | list[str], spelling: Spelling) -> None:
        if isinstance(word, list):
            tokens = self._all_known(word)
            spelling.tokens += tokens
            spelling.phones += tokens
            return
        for tokens, phones, tone in self.ways[self.target](word):
            first = len(spelling.tokens)
            spelling.tokens += tokens
            spelling.phones += phones
            if tone:
                spelling.tones.append((first, len(spelling.tokens), tone))

    def _all_known(self, symbols: Iterable[str]) -> list[str]:
        return [symbol for symbol in symbols if symbol in self.known or self._refuse(symbol)]

    def _refuse(self, symbol: str) -> bool:
        """Never true: the symbol is dropped, unless that is an error."""
        if self.unknown != "drop":
            raise Unknown(symbol)
        self.dropped[symbol] += 1
        return False

    def _letters(self, word: str) -> Iterable[tuple[list[str], list[str], str]]:
        letters = []
        for letter in word:
            forms = [form for form in (letter, letter.lower(), letter.upper()) if form in self.known]
            if forms:
                letters.append(forms[0])
            elif not _passed_over(letter):
                self._refuse(letter)
        yield letters, letters, ""

    def _espeak(self, word: str) -> Iterable[tuple[list[str], list[str], str]]:
        assert self.language is not None
        if not all(map(_passed_over, word)):
            phones = self._all_known(_pronounced(self.language, word))
            yield phones, phones, ""

    def _looked_up(self, word: str) -> Iterable[tuple[list[str], list[str], str]]:
        bare = word.strip("".join(mark for mark in set(word) if _passed_over(mark) and mark != "'"))
        found = next(
            (self.lexicon[form] for form in (word, bare, bare.lower(), bare.upper()) if form in self.lexicon), None
        )
        if found is None:
            if bare:
                self._refuse(word)
            return
        phones = self._all_known(found)
        yield phones, phones, ""

    def _syllables(self, word: str) -> Iterable[tuple[list[str], list[str], str]]:
        with extra("mandarin"):
            from pypinyin import Style, lazy_pinyin
            from pypinyin.contrib.tone_convert import to_finals, to_initials
        characters = [letter for letter in word if not _passed_over(letter)]
        read = [letter for letter in characters if lazy_pinyin(letter, errors="ignore") or self._refuse(letter)]
        # Together: the reading of a character depends on its neighbours.
        readings = lazy_pinyin("".join(read), style=Style.TONE3, neutral_tone_with_five=True)
        for character, reading in zip(read, readings, strict=True):
            syllable, tone = reading[:-1], reading[-1:]
            parts, written = (
                [part for part in (to_initials(syllable, strict=strict), to_finals(syllable, strict=strict)) if part]
                for strict in (True, False)
            )
            choices: list[tuple[list[str], list[str]]] = [
                ([character], [syllable]),
                ([reading], [syllable]),
                ([syllable], [syllable]),
                ([*parts[:-1], parts[-1] + tone], parts),
                (parts, parts),
                ([*written[:-1], written[-1] + tone], written),
                (written, written),
            ]
            choices += [([token.replace("v", "ü") for token in tokens], phones) for tokens, phones in choices]
            for tokens, phones in choices:
                if self.known.issuperset(tokens):
                    yield tokens, phones, tone
                    break
            else:
                self._refuse(character)


def _words_of_label(clip: Clip, label: str, said: Any) -> list[Any]:
    """Lists of phones, one for each word."""
    if isinstance(said, str):
        symbols = nfc(said).split()
    elif isinstance(said, Sequence):
        symbols = [nfc(str(row[-1] if isinstance(row, list | tuple) and row else row)) for row in said]
    else:
        raise InputError(f"{clip.key}: its label {label!r} holds no phones but {said!r}; name another as align.target")
    words: list[list[str]] = [[]]
    for symbol in symbols:
        if symbol == WORD:
            words.append([])
        elif symbol not in SILENCES:
            words[-1].append(symbol)
    return [word for word in words if word]


def _passed_over(letter: str) -> bool:
    """Punctuation, symbols, spaces and control characters."""
    return unicodedata.category(letter)[0] in "PSZC"


@cache
def _synthesiser() -> Synthesiser:
    return Synthesiser()


@cache
def _pronounced(language: str, word: str) -> tuple[str, ...]:
    phones = (nfc(symbol.translate(STRESS)) for symbol in _synthesiser().pronounce(language, word))
    # What stands in brackets marks a word that is read as in another language.
    return tuple(symbol for symbol in phones if symbol and not symbol.startswith("("))


def _read_lexicon(path: Path) -> dict[str, list[str]]:
    lexicon: dict[str, list[str]] = {}
    for word, phones in parse_lines(path, _entry, "align.lexicon"):
        lexicon.setdefault(word, phones)
    if not lexicon:
        raise InputError(f"align.lexicon={path} holds no word")
    return lexicon


def _entry(line: str) -> tuple[str, list[str]] | None:
    columns = line.split("\t")
    word, *phones = [columns[0].strip(), *columns[-1].split()] if len(columns) > 1 else line.split()
    if line.startswith(";;;"):  # a comment of the CMU dictionary
        return None
    if not word or not phones:
        raise InputError(f"{line[:40]!r} is not a word and its phones")
    return word, phones
