"""Write `w2v_abx/heads/ipa.json`: phonological features of the IPA's letters, and what its diacritics change.

    pip install --no-deps panphon==0.22.2
    python tools/ipa_features.py

They are those of PanPhon (Mortensen et al., 2016), MIT licence, of whose package this reads the tables alone: the rest
of it wants pandas and more, which nothing here needs.
"""

import csv
import json
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from unicodedata import normalize

from w2v_abx.heads.phonology import FILE

SOURCE = "PanPhon 0.22.2 (Mortensen et al., 2016)"

Segments = Mapping[str, Mapping[str, str]]


def main() -> None:
    data = Path(str(distribution("panphon").locate_file("panphon/data")))
    # The table of all segments is what PanPhon's distances go by; the others differ from it in some values.
    everything = _read(data / "ipa_all.csv")
    letters = {letter: everything[letter] for letter in sorted(_read(data / "ipa_bases.csv")) if letter in everything}
    marked = set(everything) - set(letters)
    marks = sorted({segment[-1] for segment in marked if segment[:-1] in letters})
    content = {
        "source": SOURCE,
        "licence": distribution("panphon").read_text("LICENSE.txt"),  # which wants to go with copies
        "features": list(letters["a"]),
        "letters": {letter: "".join(values.values()) for letter, values in letters.items()},
        "diacritics": {mark: _changed(mark, letters, everything) for mark in marks},
    }
    FILE.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, dict[str, str]]:
    """Read the features of segments."""
    with path.open(encoding="utf-8", newline="") as file:
        return {normalize("NFD", row.pop("ipa")): row for row in csv.DictReader(file)}


def _changed(mark: str, letters: Segments, everything: Segments) -> dict[str, str]:
    """Find the features that have one value wherever the mark is, and another without it somewhere."""
    pairs = [(values, everything[letter + mark]) for letter, values in letters.items() if letter + mark in everything]
    return {
        feature: after[feature]
        for before, after in pairs
        for feature in after
        if before[feature] != after[feature] and {marked[feature] for _, marked in pairs} == {after[feature]}
    }


if __name__ == "__main__":
    main()
