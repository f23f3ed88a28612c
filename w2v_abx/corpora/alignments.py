"""Phone and word times of a corpus, from a folder of TextGrids laid out as its audio is."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from w2v_abx.clips import Clip
from w2v_abx.errors import InputError
from w2v_abx.items.labels import UNTIMED, seconds_of
from w2v_abx.items.textgrids import pick_tier, read_tiers
from w2v_abx.system.text import on_disk

__all__ = ["read_alignment", "require_alignments"]

STRESS = re.compile(r"(?<=[A-Z])[012]$")  # ARPABET: AH0


def read_alignment(root: Path, name: Path, audio: Path, *, keep_stress: bool = True) -> dict[str, Any]:
    """``phones`` and ``words`` (if there), lists of [onset s, offset s, symbol], of a file named without ending.

    They are the tiers of these names, as the Montreal Forced Aligner writes them. Empty intervals are left out; what
    names silence (``sil``, ``sp``, ``spn``) stays as it is. Empty where there is no TextGrid: a few utterances of any
    corpus cannot be aligned. For one that is damaged, has no tier of phones or does not fit ``audio``, the reason.
    """
    path = on_disk(root / name.parent / f"{name.name}.TextGrid")
    if not path.exists():
        return {}
    try:
        tiers = read_tiers(path)
        phones, words = pick_tier(tiers, ["phones"]), pick_tier(tiers, ["words"])
    except InputError as error:
        return {UNTIMED: ["bad_textgrid", str(error)]}
    if phones is None:
        names = ", ".join(tiers) or "none"
        return {UNTIMED: ["bad_textgrid", f"{path} has no tier 'phones' of intervals; its tiers are: {names}"]}
    if why := tiers.misfit(path, seconds_of(audio)):
        return {UNTIMED: list(why)}
    if not keep_stress:
        phones = [[onset, offset, STRESS.sub("", phone)] for onset, offset, phone in phones]
    return {"phones": phones} if words is None else {"phones": phones, "words": words}


def require_alignments(root: Path | None, clips: Sequence[Clip]) -> None:
    """`InputError` when there is a folder of TextGrids, and no clip had one that can be used."""
    if root is None or any("phones" in clip.labels for clip in clips):
        return
    reasons = (clip.labels[UNTIMED][1] for clip in clips if UNTIMED in clip.labels)
    why = next(reasons, "lay them out as the audio is, with .TextGrid for its ending")
    raise InputError(f"corpus.alignments={root} holds no TextGrid of these clips that can be used: {why}")
