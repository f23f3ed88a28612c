"""Frames and their labels, decided one frame and one interval at a time in exact fractions."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import ceil, floor


def holds(onset: str, offset: str, frame: int, frequency: Fraction) -> bool:
    """Whether the centre of a frame lies in an interval, of which both ends belong to it."""
    centre = (frame + Fraction(1, 2)) / frequency
    return Fraction(onset) <= centre <= Fraction(offset)


def frames_of(onset: str, offset: str, frequency: Fraction) -> list[int]:
    """The frames of an interval."""
    beyond = int(Fraction(offset) * frequency) + 2
    return [frame for frame in range(beyond) if holds(onset, offset, frame, frequency)]


def frames_of_libri_light(onset: str, offset: str, frequency: Fraction) -> list[int]:
    """The frames that Libri-Light's evaluation cuts out: a slice up to the last of those within, exclusively.

    The bounds are those of `eval/ABX_src/abx_iterators.py`, without its floats.
    """
    start = max(0, ceil(frequency * Fraction(onset) - Fraction(1, 2)))
    end = floor(frequency * Fraction(offset) - Fraction(1, 2))
    return [*range(start, end)]


def labels_of(
    intervals: Iterable[tuple[str, str, str]], frames: int, frequency: Fraction, classes: Mapping[str, int], ignore: int
) -> list[int]:
    """The label of each frame: that of the last interval which holds it."""
    labels = []
    for frame in range(frames):
        symbols = [symbol for onset, offset, symbol in intervals if holds(onset, offset, frame, frequency)]
        labels.append(classes.get(symbols[-1], ignore) if symbols else ignore)
    return labels
