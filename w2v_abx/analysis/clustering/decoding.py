"""Read clusters as though they were what a recogniser puts out, and count its errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from w2v_abx.analysis.clustering.contingency import contingency
from w2v_abx.analysis.clustering.frames import Label, WholeFiles
from w2v_abx.analysis.points import NONE
from w2v_abx.heads.decoding import collapse
from w2v_abx.heads.edits import Edits, align, count
from w2v_abx.heads.vocabulary import BLANK, transcript
from w2v_abx.items.items import FILE, ONSET

__all__ = ["Recogniser"]

Integers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Recogniser:
    """Decode frames of files, and score them against what items say of these files.

    Each cluster stands for the symbol that most of its frames have, blanks apart (Grósz et al., 2023): counted in one
    half of the speakers and applied in the other, and the reverse. Repeated symbols are joined. Frames that lie in no
    item stand for nothing, as blanks do.

    Attributes:
        label: the symbols of frames.
        starts: (files + 1) the first frame of each file.
        half: (files,) the half that each is in.
        references: by file, the symbols that are right.
        heard: (N,) whether a frame lies in an item with a symbol.
    """

    label: Label
    starts: Integers
    half: npt.NDArray[np.bool_]
    references: Sequence[Sequence[str]]
    heard: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, label: Label, files: WholeFiles, seed: int) -> "Recogniser | None":
        """Make one for a label; None: items do not have its column, or there is one file."""
        half = files.halves(seed)
        if half is None or label.column not in files.items.labels:
            return None
        counts = np.bincount(files.points.item)
        right = files.label(label.column).classes.codes
        references = _references(label, files)
        return cls(label, np.concatenate([[0], np.cumsum(counts)]), half, references, right >= 0)

    def clusters(self, codes: Integers, k: int) -> Edits | None:
        """Score clusters of the first (n,) frames, as far as they reach over whole files; None: of one half alone."""
        size = int(np.searchsorted(self.starts, len(codes), side="right")) - 1
        if len(set(self.half[:size].tolist())) < 2:
            return None
        codes = codes[: self.starts[size]]
        own = self.label.codes(blanks=False)[: len(codes)]
        second = np.repeat(self.half[:size], np.diff(self.starts[: size + 1]))
        symbols = np.empty(len(codes), dtype=np.int64)
        for part in (second, ~second):
            table = contingency(codes[part], own[part], (k, len(self.label.classes.names)))
            stands = np.where(table.any(1), table.argmax(1), -1)
            symbols[~part] = stands[codes[~part]]
        return self._score(symbols, size)

    def head(self) -> Edits:
        """Score the label itself, where it is what a head puts out."""
        return self._score(self.label.codes(blanks=False), len(self.references))

    def _score(self, symbols: Integers, files: int) -> Edits:
        """Collapse the symbols of frames, −1 for nothing, and compare."""
        names = self.label.classes.names
        path = np.where(self.heard[: len(symbols)], symbols, -1) + 1 + BLANK
        edges = zip(self.starts[:files], self.starts[1 : files + 1], strict=True)
        found = [[names[n - 1 - BLANK] for n in collapse(path[start:stop].tolist())] for start, stop in edges]
        return count(pair for pairs in align(self.references[:files], found) for pair in pairs)


def _references(label: Label, files: WholeFiles) -> list[list[str]]:
    """Join the values of each file's items in their order; where all symbols are characters, their characters."""
    names = label.classes.names
    characters, lower = all(len(name) <= 1 for name in names), all(name == name.lower() for name in names)
    rows: dict[str, list[tuple[float, str]]] = {name: [] for name in files.files}
    for name, onset, value in files.items.frame.select(FILE, ONSET, label.column).iter_rows():
        if name in rows and value not in NONE:
            rows[name].append((float(onset), value))
    texts = [[value for _, value in sorted(found, key=lambda row: row[0])] for found in rows.values()]
    return [[s for value in text for s in transcript(value, characters, lower and characters) or []] for text in texts]
