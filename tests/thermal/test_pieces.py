"""Micro-batches shrink at once and grow with caution."""

import math

import pytest

from w2v_abx.thermal.pieces import Pieces, Ran


def test_shrinking_holds_the_smaller_limit() -> None:
    pieces = Pieces()
    pieces.shrink(0.0, 8, 60.0)
    pieces.shrink(10.0, 12, 60.0)
    assert pieces.limit == 8
    assert not pieces.settled(12.0)
    assert pieces.settled(15.0)


def test_growth_is_by_a_quarter_and_ends_with_the_batch() -> None:
    pieces, sizes = Pieces(limit=1), []
    for time in range(20):
        pieces.grow(100.0 * time, Ran(1.0, 0.0, pieces.limit or 16, 16))
        sizes.append(pieces.limit)
        if pieces.limit is None:
            break
    assert sizes == [2, 3, 4, 5, 6, 7, 8, 10, 12, 15, None]


def test_growing_and_shrinking_by_turns_is_waited_with_twice_as_long_each_time() -> None:
    pieces = Pieces(limit=4)
    for turn in range(3):
        pieces.grow(1000.0 * turn, Ran(1.0, 0.0, 4, 16))
        pieces.shrink(1000.0 * turn + 30.0, 4, 60.0)
    assert pieces.caution == 8
    pieces.grow(9000.0, Ran(1.0, 0.0, 4, 16))
    pieces.shrink(9999.0, 4, 60.0)  # that held for long enough
    assert pieces.caution == 8


@pytest.mark.parametrize("overhead", [0.0, 0.5, 2.0])
def test_the_power_of_larger_micro_batches_is_told_from_durations(overhead: float) -> None:
    """Micro-batches of n clips take c (n + overhead) and draw power in the share n / (n + overhead) of that."""
    pieces = Pieces()
    for clips in (2, 8):
        pieces.note(Ran(0.1 * (clips + overhead), 0.0, clips, 16))
    pieces.limit = 2
    share = pieces.grow(0.0, Ran(1.0, 0.0, 2, 16))
    assert share == pytest.approx((2 / (2 + overhead)) / (3 / (3 + overhead)))


def test_without_two_sizes_nothing_is_known_of_power() -> None:
    pieces = Pieces(limit=4)
    pieces.note(Ran(1.0, 0.0, 4, 16))
    assert pieces.grow(0.0, Ran(1.0, 0.0, 4, 16)) == 1.0
    assert pieces.shrunk_at == -math.inf
