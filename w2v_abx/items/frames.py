"""Say which frames belong to an interval of time: those whose centres lie in it, as in ABXpy."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from w2v_abx.errors import InputError

__all__ = ["SLICINGS", "FrameClock", "exact_frequency", "frame_labels", "frame_spans"]

Integers = npt.NDArray[np.int64]

NANOSECONDS = 10**9  # a second
SLICINGS = ("exact", "librilight")  # how frames are cut out for an interval, see `frame_spans`


class FrameClock(NamedTuple):
    """Frames at ``frequency`` a second: the centre of frame i is at (i + 1/2) / frequency seconds."""

    frequency: Fraction


def exact_frequency(frequency: float | str | Decimal | Fraction) -> Fraction:
    """Frames a second as an exact fraction; a float means the decimal number it prints as (49.95 is 999/20)."""
    try:
        exact = frequency if isinstance(frequency, Fraction) else Fraction(str(frequency))
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"The frequency must be a number of frames a second, not {frequency!r}.") from error
    if exact <= 0:
        raise InputError(f"The frequency must be above zero frames a second, not {frequency}.")
    return exact


def frame_spans(
    onsets: npt.NDArray[Any], offsets: npt.NDArray[Any], per_second: int, clock: FrameClock, slicing: str = "exact"
) -> tuple[Integers, Integers]:
    """First frame of each interval, and the frame after its last.

    The frames run from ``ceil(onset·f − 1/2)`` up to and including ``floor(offset·f − 1/2)``, computed exactly. An
    interval shorter than a frame may have none (its end is then not after its start).

    Args:
        onsets, offsets: (N,) zero or more, in units of which there are ``per_second``: int64, or Python integers in an
            object array.
        slicing: "exact", or "librilight": without the last of these frames. `eval/ABX_src/abx_iterators.py` of
            Libri-Light (Kahn et al., 2020), and the evaluation of ZeroSpeech 2021 after it, take that frame's number
            for the end of a slice, which Python leaves out. (They compute in floats, where a centre on the very edge of
            an interval may fall on either side of it; here it is inside.)
    """
    whole, twice = per_second * clock.frequency.denominator, 2 * clock.frequency.numerator
    largest = max(int(offsets.max(initial=0)) * twice + whole, 2 * whole)
    kind = np.dtype(np.int64) if largest < 2**62 else np.dtype(object)
    first = -((whole - onsets.astype(kind) * twice) // (2 * whole))
    last = (offsets.astype(kind) * twice - whole) // (2 * whole)
    return first.astype(np.int64), last.astype(np.int64) + (slicing == "exact")


def frame_labels(
    intervals: Iterable[tuple[float, float, str]],
    frames: int,
    clock: FrameClock,
    classes: Mapping[str, int],
    ignore: int = -100,
) -> Integers:
    """Give each of a clip's frames (F,) the class of the interval that its centre lies in.

    Args:
        intervals: onset and offset in seconds from the clip's start, read to the nanosecond, and the symbol; in order
            of their onsets. A centre at an onset or an offset lies in the interval; of several intervals that it lies
            in, the last counts.
        frames: F; what reaches beyond the last frame is cut off.
        classes: the class of each symbol.
        ignore: for frames in no interval, or in one whose symbol has no class.
    """
    labels = np.full(frames, ignore, dtype=np.int64)
    rows = list(intervals)
    times = np.rint(np.array([row[:2] for row in rows]).reshape(-1, 2) * NANOSECONDS).astype(np.int64)
    spans = frame_spans(times[:, 0], times[:, 1], NANOSECONDS, clock)
    for first, stop, (_, _, symbol) in zip(*(span.tolist() for span in spans), rows, strict=True):
        labels[first:stop] = classes.get(symbol, ignore)
    return labels
