"""Phone and word times of a corpus, from a folder of TextGrids laid out as its audio is."""

import re
from pathlib import Path
from typing import Any

from w2v_abx.errors import InputError
from w2v_abx.items.textgrids import pick_tier, read_tiers

__all__ = ["Alignments"]

STRESS = re.compile(r"(?<=[A-Z])[012]$")  # ARPABET: AH0


class Alignments:
    """The TextGrids below ``root``, with the tiers that the Montreal Forced Aligner writes: ``phones`` and ``words``.

    Empty intervals are left out; what names silence (``sil``, ``sp``, ``spn``) stays as it is.
    """

    def __init__(self, root: Path, *, keep_stress: bool = True) -> None:
        self.root, self.keep_stress = root, keep_stress
        self.found = False

    def read(self, name: Path) -> dict[str, Any]:
        """``phones`` and ``words`` (if there), lists of [onset s, offset s, symbol], of a file named without ending.

        Empty where there is no TextGrid: a few utterances of any corpus cannot be aligned. Raises `InputError` for one
        that is damaged or has no tier of phones.
        """
        path = self.root / name.parent / f"{name.name}.TextGrid"
        if not path.exists():
            return {}
        self.found = True
        tiers = read_tiers(path)
        phones, words = pick_tier(tiers, ["phones"]), pick_tier(tiers, ["words"])
        if phones is None:
            raise InputError(f"{path} has no tier 'phones' of intervals; its tiers are: {', '.join(tiers) or 'none'}")
        if not self.keep_stress:
            phones = [[onset, offset, STRESS.sub("", phone)] for onset, offset, phone in phones]
        return {"phones": phones} if words is None else {"phones": phones, "words": words}

    def require_some(self) -> None:
        """`InputError` when no file that was asked for had a TextGrid."""
        if not self.found:
            raise InputError(
                f"corpus.alignments={self.root} holds no TextGrid of these clips: lay them out as the audio is, with "
                f".TextGrid for its ending"
            )
