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
        clips, seconds = limit.larger(StepStats.of_work(0.1 * limit.clips, limit.clips, 16))
        assert seconds == pytest.approx(0.1 * clips)
        limit.grow(100.0, clips, 16)
        sizes.append(limit.clips)
    assert sizes == [2, 3, 4, 6, 8, None]


def test_a_remainder_does_not_pass_for_a_whole_micro_batch() -> None:
    limit = MicroBatchLimit(6)
    assert limit.larger(StepStats.of_work(0.4, 4, 16)) == (8, pytest.approx(0.8))


def test_alternate_growing_and_shrinking_is_waited_for_twice_as_long_each_time() -> None:
    limit = MicroBatchLimit(4)
    for time in (0.0, 1000.0, 2000.0):
        limit.grow(time, 6, 16)
        limit.shrink(time + 30.0, 4, 60.0)
    assert limit.caution == 8
    limit.grow(9000.0, 6, 16)
    limit.shrink(9999.0, 4, 60.0)  # that held for long enough
    assert limit.caution == 8
