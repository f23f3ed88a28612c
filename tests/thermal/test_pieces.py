"""Micro-batches shrink at once and grow with caution."""

import pytest

from w2v_abx.thermal.pieces import Pieces, Ran


def test_shrinking_holds_the_smaller_limit() -> None:
    pieces = Pieces()
    pieces.shrink(0.0, 8, 60.0)
    pieces.shrink(10.0, 12, 60.0)
    assert pieces.limit == 8
    assert not pieces.settled(12.0)
    assert pieces.settled(15.0)


def test_growth_makes_one_piece_fewer_of_a_batch_and_ends_with_all_of_it() -> None:
    pieces, sizes = Pieces(limit=1), []
    while pieces.limit is not None:
        clips, seconds, _ = pieces.larger(Ran(0.1 * pieces.limit, 0.0, pieces.limit, 16))
        assert seconds == pytest.approx(0.1 * clips)
        pieces.grow(100.0, clips, 16)
        sizes.append(pieces.limit)
    assert sizes == [2, 3, 4, 6, 8, None]


def test_a_remainder_does_not_pass_for_a_whole_piece() -> None:
    pieces = Pieces(limit=6)
    for clips in (6, 6, 4):
        pieces.note(Ran(0.1 * clips, 0.0, clips, 16))
    assert pieces.larger(Ran(0.4, 0.0, 4, 16))[:2] == (8, pytest.approx(0.8))


def test_growing_and_shrinking_by_turns_is_waited_with_twice_as_long_each_time() -> None:
    pieces = Pieces(limit=4)
    for turn in range(3):
        pieces.grow(1000.0 * turn, 6, 16)
        pieces.shrink(1000.0 * turn + 30.0, 4, 60.0)
    assert pieces.caution == 8
    pieces.grow(9000.0, 6, 16)
    pieces.shrink(9999.0, 4, 60.0)  # that held for long enough
    assert pieces.caution == 8


@pytest.mark.parametrize("overhead", [0.0, 0.5, 2.0])
def test_the_power_of_larger_micro_batches_is_told_from_durations(overhead: float) -> None:
    """Micro-batches of n clips take c (n + overhead) and draw power in the share n / (n + overhead) of that: for
    batches of 16 in 8, and in 5 of three and one of one, that is 16 in 16 + 8 and in 16 + 6 overheads."""
    pieces = Pieces()
    for clips in (2, 8):
        pieces.note(Ran(0.1 * (clips + overhead), 0.0, clips, 16))
    pieces.limit = 2
    share = pieces.larger(Ran(1.0, 0.0, 2, 16))[2]
    assert share == pytest.approx((16 / (16 + 8 * overhead)) / (16 / (16 + 6 * overhead)))


def test_without_two_sizes_nothing_is_known_of_power() -> None:
    pieces = Pieces(limit=4)
    pieces.note(Ran(1.0, 0.0, 4, 16))
    assert pieces.larger(Ran(1.0, 0.0, 4, 16))[2] == 1.0
