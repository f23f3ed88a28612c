"""The symbols that a transcript is made of, and their numbers in a head's output."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_abx.errors import InputError
from w2v_abx.system.text import nfc

__all__ = ["BLANK", "DELIMITER", "Vocabulary", "is_timed", "transcript"]

BLANK = 0  # CTC's blank; the symbols' numbers begin after it
DELIMITER = "|"  # stands for the space between words in vocabulary files, as in fairseq's and Hugging Face's
WANTED = "give a text file with a symbol in each line"


@dataclass(frozen=True)
class Vocabulary:
    """Symbols in the order of their numbers, which begin at 1.

    ``symbols``: those that a head has an output for. ``unseen``: further ones that only held-out references have; their
    numbers follow, so that a reference is never told in other symbols than its own.
    """

    symbols: tuple[str, ...]
    unseen: tuple[str, ...] = ()

    @classmethod
    def read(cls, key: str, path: str | Path) -> "Vocabulary":
        """Read a text file with a symbol in each line, ``|`` standing for the space; ``key`` is the setting.

        Raises:
            InputError: it cannot be read, has no symbol, a symbol twice, or a line of several.
        """
        try:
            lines = nfc(Path(path).expanduser().read_text(encoding="utf-8")).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{key}={path} cannot be read ({error}): give a text file with a symbol in each line"
            ) from None
        found: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            symbol = line.strip()
            if not symbol:
                continue
            if len(symbol.split()) > 1:
                raise InputError(f"{path}, line {number}: {line!r} is several symbols: give one in each line")
            if symbol in found:
                raise InputError(f"{path}, line {number}: {symbol!r} stands in line {found[symbol]}, too: take one out")
            found[symbol] = number
        if not found:
            raise InputError(f"{key}={path} has no symbol: {WANTED}")
        return cls(tuple(" " if symbol == DELIMITER else symbol for symbol in found))

    def numbers(self, symbols: Sequence[str]) -> list[int]:
        """Number symbols, each of which has to be known."""
        table = self._table
        return [table[symbol] for symbol in symbols]

    def symbols_of(self, numbers: Iterable[int]) -> list[str]:
        """Return the symbols with these numbers."""
        known = (*self.symbols, *self.unseen)
        return [known[number - 1] for number in numbers]

    @property
    def _table(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate((*self.symbols, *self.unseen), 1)}


def is_timed(label: Any) -> bool:
    """Say whether a label is a list of ``[onset s, offset s, symbol]``."""
    return isinstance(label, list) and bool(label) and all(isinstance(row, list) and len(row) >= 3 for row in label)


def transcript(label: Any, characters: bool, lower: bool) -> list[str] | None:
    """Take the symbols out of a clip's label; None where it is neither a text nor a list of them, timed or not.

    Args:
        label: a text, a list of texts, or a list of ``[onset s, offset s, symbol]``.
        characters: a symbol is a character, words being one space apart; else a text's symbols stand between spaces,
            and each entry of a list is one.
        lower: in lower case.
    """
    if isinstance(label, str):
        texts = label.split()
    elif isinstance(label, list):
        entries = [row[2] for row in label] if is_timed(label) else label
        if not all(isinstance(entry, str) for entry in entries):
            return None
        texts = entries
    else:
        return None
    texts = [nfc(text.lower() if lower else text) for text in texts]
    return list(" ".join(" ".join(texts).split())) if characters else [text for text in texts if text]
