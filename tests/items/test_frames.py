"""Which frames an interval has, and the labels of frames, against exact fractions frame by frame."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.frames import frames_of, frames_of_libri_light, labels_of

from w2v_abx.errors import InputError
from w2v_abx.items.frames import FrameClock, exact_frequency, frame_labels, frame_spans

FREQUENCIES = [50, 100, 49.95, "62.5", 0.3, Fraction(16000, 320), Fraction(100, 3)]
seconds = st.integers(0, 40_000).map(lambda k: Decimal(k) / 10_000)  # centres at 50 Hz fall on the grid
CLASSES = {"a": 0, "b": 1}


@given(pair=st.tuples(seconds, seconds).map(sorted), frequency=st.sampled_from(FREQUENCIES))
def test_frames_have_their_centres_in_the_interval(pair: list[Decimal], frequency: object) -> None:
    clock = FrameClock(exact_frequency(frequency))  # type: ignore[arg-type]
    onset, offset = (np.array([int(time * 10_000)]) for time in pair)
    (first,), (stop,) = frame_spans(onset, offset, 10_000, clock)
    assert list(range(first, stop)) == frames_of(str(pair[0]), str(pair[1]), clock.frequency)
    big = 10**30  # beyond 64 bits
    wide = [np.array([int(time * 10_000) * big], dtype=object) for time in pair]
    assert [span.tolist() for span in frame_spans(wide[0], wide[1], 10_000 * big, clock)] == [[first], [stop]]


@given(pair=st.tuples(seconds, seconds).map(sorted), frequency=st.sampled_from(FREQUENCIES))
def test_libri_light_takes_one_frame_less(pair: list[Decimal], frequency: object) -> None:
    clock = FrameClock(exact_frequency(frequency))  # type: ignore[arg-type]
    bounds = [np.array([int(time * 10_000)]) for time in pair]
    (first,), (stop,) = frame_spans(*bounds, 10_000, clock, "librilight")
    found = [*range(first, stop)]
    assert found == frames_of_libri_light(str(pair[0]), str(pair[1]), clock.frequency)
    assert found == frames_of(str(pair[0]), str(pair[1]), clock.frequency)[:-1]


@given(
    bounds=st.lists(seconds, min_size=2, max_size=9),
    symbols=st.lists(st.sampled_from("abc"), min_size=8, max_size=8),
    gaps=st.sets(st.integers(0, 7)),
    frames=st.integers(0, 220),
    frequency=st.sampled_from(FREQUENCIES),
)
def test_labels_are_those_of_the_reference(
    bounds: list[Decimal], symbols: list[str], gaps: set[int], frames: int, frequency: object
) -> None:
    clock = FrameClock(exact_frequency(frequency))  # type: ignore[arg-type]
    bounds = sorted(bounds)
    rows = [row for k, row in enumerate(zip(bounds, bounds[1:], symbols, strict=False)) if k not in gaps]
    found = frame_labels([(float(a), float(b), symbol) for a, b, symbol in rows], frames, clock, CLASSES)
    written = [(str(a), str(b), symbol) for a, b, symbol in rows]
    assert found.tolist() == labels_of(written, frames, clock.frequency, CLASSES, -100)
    assert found.dtype == np.int64


def test_intervals_that_overlap_and_symbols_without_a_class() -> None:
    clock = FrameClock(Fraction(10))
    rows = [(0.0, 0.5, "a"), (0.2, 0.4, "b"), (0.65, 0.75, "?"), (0.9, 9.0, "b")]
    expected = [0, 0, 1, 1, 0, -100, -100, -100, -100, 1]
    # Of the frame in both, the later interval; after its end, it is in the first alone.
    assert frame_labels(rows, 10, clock, CLASSES).tolist() == expected
    assert frame_labels(rows, 10, clock, CLASSES, ignore=7)[5] == 7
    assert frame_labels([], 3, clock, CLASSES).tolist() == [-100] * 3


def test_a_shared_bound_on_a_centre_belongs_to_the_later_interval() -> None:
    # The centre of frame 3 at 50 Hz is at 0.07 s, for which a float would give 0.07 · 50 > 3.5.
    labels = frame_labels([(0.0, 0.07, "a"), (0.07, 0.1, "b")], 5, FrameClock(Fraction(50)), CLASSES)
    assert labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("frequency", [0, -1, "fast", "1/0", float("nan")])
def test_a_frequency_is_above_zero(frequency: object) -> None:
    with pytest.raises(InputError, match="frequency must be"):
        exact_frequency(frequency)  # type: ignore[arg-type]
