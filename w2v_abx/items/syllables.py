"""Syllables of a tone language, from the times of its tones and phones."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from w2v_abx.items.labels import Interval

__all__ = ["NOTHING", "Syllable", "syllables_of"]

NOTHING = "-"  # what stands for a neighbour, or a tone, that is not there
JOINT = "_"  # between the phones of a syllable


class Syllable(NamedTuple):
    """A syllable: from its first phone to its last, these joined as ``segments``, and its tone.

    ``before``, ``after``: the phones beside it; `NOTHING` at the edge of a clip, beside a pause or a symbol that is
    left out. ``reason``: why it is no item; empty, if it is one.
    """

    onset: float
    offset: float
    segments: str
    tone: str
    before: str
    after: str
    reason: str


def syllables_of(
    phones: Sequence[Interval], tones: Sequence[Interval], exclude: Collection[str], max_gap: float
) -> Iterator[Syllable]:
    """Make a syllable of each tone: of the phones whose middles lie in it.

    A tone without phones is no item ("empty"), nor is a syllable with a symbol of ``exclude`` among its phones
    ("excluded"), or more than ``max_gap`` seconds between two of them ("pause").
    """
    for tone in tones:
        places = [place for place, phone in enumerate(phones) if tone.onset <= _middle(phone) < tone.offset]
        if not places:
            yield Syllable(tone.onset, tone.offset, "", tone.symbol, NOTHING, NOTHING, "empty")
            continue
        first, last = places[0], places[-1]
        own = phones[first : last + 1]
        inside = [after.onset - before.offset > max_gap for before, after in pairwise(own)]
        left_out = any(phone.symbol in exclude for phone in own)
        before = _beside(phones, first - 1, own[0].onset, exclude, max_gap)
        after = _beside(phones, last + 1, own[-1].offset, exclude, max_gap)
        reason = "excluded" if left_out else "pause" if any(inside) else ""
        segments = JOINT.join(phone.symbol for phone in own)
        yield Syllable(own[0].onset, own[-1].offset, segments, tone.symbol, before, after, reason)


def _beside(phones: Sequence[Interval], place: int, edge: float, exclude: Collection[str], max_gap: float) -> str:
    """The symbol of the phone at ``place``, if there is one within ``max_gap`` seconds of ``edge``."""
    if not 0 <= place < len(phones) or phones[place].symbol in exclude:
        return NOTHING
    gap = max(phones[place].onset - edge, edge - phones[place].offset)
    return phones[place].symbol if gap <= max_gap else NOTHING


def _middle(interval: Interval) -> float:
    return (interval.onset + interval.offset) / 2
