"""The labels of a clip that are intervals of time: phones, words, tones."""

from typing import NamedTuple

from w2v_abx.clips import Clip
from w2v_abx.errors import InputError

__all__ = ["TIERS", "Interval", "intervals"]

TIERS = ("words", "phones", "tones")


class Interval(NamedTuple):
    """Seconds from the clip's start, and what is spoken there."""

    onset: float
    offset: float
    symbol: str


def intervals(clip: Clip, label: str) -> list[Interval]:
    """The intervals of a label, in order; none where the clip lacks it.

    Raises:
        InputError: the label is not a list of ``[onset s, offset s, symbol]`` in order of time; names the clip.
    """
    found: list[Interval] = []
    for row in clip.labels.get(label) or ():
        try:
            onset, offset, symbol = row
            interval = Interval(float(onset), float(offset), str(symbol))
        except (TypeError, ValueError):
            raise InputError(f"{clip.key}: {row!r} in its label {label} is not [onset s, offset s, symbol]") from None
        if not 0 <= interval.onset <= interval.offset:
            raise InputError(f"{clip.key}: {row!r} in its label {label} does not run forward from 0 s on")
        if found and interval.onset < found[-1].onset:
            raise InputError(f"{clip.key}: {row!r} in its label {label} comes after one that begins later")
        found.append(interval)
    return found
