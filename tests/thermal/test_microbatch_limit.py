"""Micro-batches shrink at once and grow with caution."""

import pytest

from w2v_abx.thermal import StepStats
from w2v_abx.thermal.governor.microbatch_limit import MicroBatchLimit


def test_shrinking_holds_the_smaller_limit() -> None:
    limit = MicroBatchLimit()
    limit.shrink(0.0, 8, 60.0)
    limit.shrink(10.0, 12, 60.0)
    assert limit.clips == 8
    assert not limit.settled(12.0)
    assert limit.settled(15.0)


def test_growth_makes_one_micro_batch_fewer_of_a_batch_and_ends_with_all_of_it() -> None:
    limit, sizes = MicroBatchLimit(1), []
    while limit.clips is not None:
        clips, seconds, _ = limit.larger(StepStats.of_work(0.1 * limit.clips, limit.clips, 16))
        assert seconds == pytest.approx(0.1 * clips)
        limit.grow(100.0, clips, 16)
        sizes.append(limit.clips)
    assert sizes == [2, 3, 4, 6, 8, None]


def test_a_remainder_does_not_pass_for_a_whole_micro_batch() -> None:
    limit = MicroBatchLimit(6)
    for clips in (6, 6, 4):
        limit.learn(StepStats.of_work(0.1 * clips, clips, 16))
    assert limit.larger(StepStats.of_work(0.4, 4, 16))[:2] == (8, pytest.approx(0.8))


def test_growing_and_shrinking_in_turn_is_waited_for_twice_as_long_each_time() -> None:
    limit = MicroBatchLimit(4)
    for turn in range(3):
        limit.grow(1000.0 * turn, 6, 16)
        limit.shrink(1000.0 * turn + 30.0, 4, 60.0)
    assert limit.caution == 8
    limit.grow(9000.0, 6, 16)
    limit.shrink(9999.0, 4, 60.0)  # that held for long enough
    assert limit.caution == 8


@pytest.mark.parametrize("overhead", [0.0, 0.5, 2.0])
def test_the_power_of_larger_micro_batches_is_told_from_durations(overhead: float) -> None:
    """Micro-batches of n clips take c (n + overhead) and draw power in the share n / (n + overhead) of that: for
    batches of 16 in 8, and in 5 of three and one of one, that is 16 in 16 + 8 and in 16 + 6 overheads."""
    limit = MicroBatchLimit()
    for clips in (2, 8):
        limit.learn(StepStats.of_work(0.1 * (clips + overhead), clips, 16))
    limit.clips = 2
    share = limit.larger(StepStats.of_work(1.0, 2, 16))[2]
    assert share == pytest.approx((16 / (16 + 8 * overhead)) / (16 / (16 + 6 * overhead)))


def test_without_two_sizes_nothing_is_known_of_power() -> None:
    limit = MicroBatchLimit(4)
    limit.learn(StepStats.of_work(1.0, 4, 16))
    assert limit.larger(StepStats.of_work(1.0, 4, 16))[2] == 1.0
