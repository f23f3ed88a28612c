"""Match the names that items and triplets give to files with those that there are."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from w2v_abx.audio.walking import AUDIO_ENDINGS
from w2v_abx.system.text import nfc

__all__ = ["bare", "matched"]


def bare(name: str) -> str:
    """A file's name without the ending of audio, if it has one: ``a`` of ``a.wav``, ``a.b`` of ``a.b``."""
    ending = PurePosixPath(name).suffix
    return name.removesuffix(ending) if ending.lower() in AUDIO_ENDINGS else name


def matched(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Find each wanted name among those that are there, whatever its Unicode form; absent ones are left out.

    Where it is not there, one that is called so but for an ending of audio is taken, if there is only one.
    """
    names = dict.fromkeys(there)
    composed = {nfc(name): name for name in names}
    stems: dict[str, list[str]] = {}
    for name in names:
        stems.setdefault(bare(nfc(name)), []).append(name)
    found: dict[str, str] = {}
    for name in wanted:
        alike = stems.get(bare(nfc(name)), [])
        one = name if name in names else composed.get(nfc(name), alike[0] if len(alike) == 1 else None)
        if one is not None:
            found[name] = one
    return found
