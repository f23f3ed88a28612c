"""A batch is handed out whole, in order, in micro-batches no larger than what holds."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from elastic import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_abx.data.batch import Batch
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch import MicroBatcher, MicroBatching

RATE = 16_000


@given(
    clips=st.integers(1, 9),
    start=st.none() | st.integers(1, 9),
    limits=st.lists(st.none() | st.integers(1, 9), max_size=9),
)
@settings(max_examples=60)
def test_each_clip_is_handed_out_once_in_order(clips: int, start: int | None, limits: list[int | None]) -> None:
    batch = make_batch(1, clips)
    batcher = MicroBatcher(MicroBatching(clips=start))
    plan: Iterator[int | None] = iter(limits)
    allowed: list[int] = []

    def change() -> None:
        batcher.limit("heat", next(plan, None))
        allowed.append(batcher.size or clips)

    batcher.hooks.append(change)
    micros = list(batcher.split(batch))
    assert [key for micro in micros for key in micro.keys] == batch.keys
    labels = torch.cat([micro.targets["labels"].values for micro in micros])
    torch.testing.assert_close(labels, batch.targets["labels"].values)
    for micro, size in zip(micros, allowed, strict=True):
        assert len(micro) <= size
        assert micro.waveforms.shape[1] == micro.lengths.max()
        for clip, key in enumerate(micro.keys):
            length = micro.lengths[clip]
            whole_clip = batch.waveforms[batch.keys.index(key)]
            assert torch.equal(micro.waveforms[clip, :length], whole_clip[:length])


def of_seconds(seconds: list[int]) -> Batch:
    """Clips of whole seconds."""
    clips, lengths = len(seconds), torch.tensor(seconds) * RATE
    return Batch([str(i) for i in range(clips)], ["silence"] * clips, torch.zeros(clips, max(lengths)), lengths)


def sizes(batcher: MicroBatcher, seconds: list[int]) -> list[int]:
    return [len(micro) for micro in batcher.split(of_seconds(seconds))]


@given(
    seconds=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    clips=st.none() | st.integers(1, 9),
    limit=st.integers(1, 40),
)
@settings(max_examples=60)
def test_a_micro_batch_is_the_longest_run_within_both_limits(seconds: list[int], clips: int | None, limit: int) -> None:
    def fits(run: list[int]) -> bool:
        return len(run) == 1 or (len(run) <= (clips or 99) and len(run) * max(run) <= limit)

    expected, left = [], seconds
    while left:
        longest = max(size for size in range(1, len(left) + 1) if all(fits(left[: n + 1]) for n in range(size)))
        expected.append(longest)
        left = left[longest:]
    batcher = MicroBatcher(MicroBatching(clips, limit))
    ends = [sum(expected[: n + 1]) for n in range(len(expected))]
    assert batcher.plan(of_seconds(seconds)) == list(zip([0, *ends], ends, strict=False))
    assert sizes(batcher, seconds) == expected


def test_a_plan_leaves_what_memory_halves_as_it_was() -> None:
    batcher = MicroBatcher(MicroBatching(clips=4))
    batch = of_seconds([1] * 9)
    next(batcher.split(batch))
    assert batcher.plan(batch)[-1] == (8, 9)  # of one clip, which could not be halved
    batcher.halve()
    assert batcher.size == 2


def test_memory_halves_the_limit_that_binds() -> None:
    def shrunk(micro: MicroBatching, seconds: list[int]) -> tuple[int | None, int | None]:
        batcher = MicroBatcher(micro)
        next(batcher.split(of_seconds(seconds)))
        batcher.halve()
        return batcher.size, batcher.samples

    assert shrunk(MicroBatching(4), [1] * 8) == (2, None)
    assert shrunk(MicroBatching(), [1] * 8) == (4, None)
    assert shrunk(MicroBatching(4, 100), [1] * 8) == (2, 100 * RATE)
    assert shrunk(MicroBatching(4, 6), [3] * 8) == (4, 3 * RATE)
    assert shrunk(MicroBatching(None, 100), [3] * 4) == (None, 6 * RATE)  # the whole batch is 12 seconds
    with pytest.raises(InputError, match="single clip"):
        shrunk(MicroBatching(4, 2), [3] * 8)


def test_a_lifted_limit_does_not_lift_another() -> None:
    batcher = MicroBatcher(MicroBatching(clips=16))
    batcher.memory["clips"].halve(16)
    batcher.limit("heat", 2)
    assert batcher.size == 2
    batcher.limit("heat", None)
    assert batcher.size == 8


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "all", "4"])
def test_bad_sizes_are_refused(size: Any) -> None:
    with pytest.raises(
        InputError,
        match=r"microbatch\.clips=.* must be a whole number from 1, or null for the whole batch; auto finds it",
    ):
        MicroBatching(clips=size)
    with pytest.raises(InputError, match=r"microbatch\.grow_after=.* must be a whole number from 1, or null for never"):
        MicroBatching(grow_after=size)
    with pytest.raises(InputError, match="the limit for heat=.* must be a whole number from 1, or null for none"):
        MicroBatcher().limit("heat", size)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), True, "auto"])
def test_bad_seconds_are_refused(seconds: Any) -> None:
    with pytest.raises(
        InputError, match=r"microbatch\.seconds=.* must be a number of seconds above 0, or null for any"
    ):
        MicroBatching(seconds=seconds)
