"""How transcripts are made comparable before they are scored: folding, symbols left out, repeats merged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from w2v_abx.corpora import timit
from w2v_abx.heads.phonology import Alphabet, broad_class
from w2v_abx.system import checks

__all__ = ["Scoring", "Transcribed"]

FOLDINGS = {"timit48": 48, "timit39": 39}


class Transcribed(NamedTuple):
    """An utterance: its reference and, by the way of decoding, its hypotheses, as symbols."""

    key: str
    corpus: str
    speaker: str
    reference: list[str]
    hypotheses: dict[str, list[str]]


@dataclass(frozen=True)
class Scoring:
    """How transcripts are scored.

    Args:
        characters: symbols are characters, of which spaces make words.
        beam: the width of the beam search; None: transcripts are decoded greedily alone.
        alphabet: what the symbols are, "ipa" or "timit" (TIMIT's 61, 48 or 39, ARPAbet in lower case): then there are
            phonetic classes and the PFER; None: neither.
        fold: what symbols become before they are scored (None: nothing), or "timit48" or "timit39" (Lee & Hon, 1989).
        apart: symbols, such as sil, without which the rates are computed, too.
    """

    characters: bool
    beam: int | None = None
    alphabet: Alphabet | None = None
    fold: str | Mapping[str, str | None] | None = None
    apart: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, key: Callable[[str], str], characters: bool, beam: int | None, alphabet: Any, fold: Any, apart: Any
    ) -> "Scoring":
        """Check the settings, each of which ``key`` names as a user writes it."""
        checks.choice(key("alphabet"), alphabet, ("ipa", "timit"), optional="for symbols of no alphabet")
        if fold is not None and not isinstance(fold, Mapping):
            checks.choice(key("fold"), fold, FOLDINGS, hint="or give a mapping, or null to leave symbols as they are")
        return cls(characters, beam, alphabet, fold, tuple(str(symbol) for symbol in apart))

    @property
    def name(self) -> str:
        return "cer" if self.characters else "per"

    @property
    def logged(self) -> tuple[str, ...]:
        """Name the metrics that are logged after a validation."""
        return (self.name, *(["wer"] if self.characters else []), *(["pfer"] if self.alphabet else []))

    def folded(self, symbol: str) -> str | None:
        """Say what a symbol is scored as; None: it is left out."""
        if self.fold is None:
            return symbol
        if isinstance(self.fold, str):
            return timit.fold(symbol, FOLDINGS[self.fold])
        return self.fold.get(symbol, symbol)

    def scored(self, symbols: Sequence[str]) -> list[str]:
        """Fold a transcript."""
        return [folded for symbol in symbols if (folded := self.folded(symbol)) is not None]

    def conventions(self) -> dict[str, Callable[[list[str]], list[str]]]:
        """Make the ways, by name, in which folded transcripts are scored; the first is that of all other tables."""
        apart = " ".join(self.apart)
        ways: dict[str, Callable[[list[str]], list[str]]] = {"as it is": lambda symbols: symbols}
        if self.apart:
            ways[f"without {apart}"] = self._without
        if self.apart or self.fold is not None:
            ways["repeated symbols merged"] = _merged
        if self.apart:
            ways[f"repeated symbols merged, without {apart}"] = lambda symbols: self._without(_merged(symbols))
        return ways

    def _without(self, symbols: list[str]) -> list[str]:
        return [symbol for symbol in symbols if symbol not in self.apart]

    def kind(self, symbol: str) -> str:
        """Name a symbol's broad phonetic class."""
        return broad_class(symbol, self.alphabet) if self.alphabet else ""


def _merged(symbols: list[str]) -> list[str]:
    return [symbol for symbol, _ in groupby(symbols)]
