"""Every clip once, in an order that its seed decides."""

from itertools import zip_longest

from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.order import Order

Clip = tuple[int, int]


def stream(order: Order, epoch: int, rank: int, number: int) -> list[Clip]:
    clips = [(s, i) for s, first, last in order.stream(epoch, rank, number) for i in range(first, last)]
    return list(order.mix(clips, epoch, rank, number))


def batches(order: Order, epoch: int, rank: int) -> list[list[Clip]]:
    """A rank's batches as its workers take turns."""
    streams = []
    for number in range(order.streams):
        clips = stream(order, epoch, rank, number)
        streams.append([clips[i : i + order.local] for i in range(0, len(clips), order.local)])
    return [batch for turn in zip_longest(*streams) for batch in turn if batch is not None]


@st.composite
def orders(draw: st.DrawFn, **fixed: object) -> Order:
    ranks = draw(st.integers(1, 4))
    settings = {
        "counts": tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))),
        "batch_size": ranks * draw(st.integers(1, 5)),
        "ranks": ranks,
        "streams": draw(st.integers(1, 4)),
        "shuffle": draw(st.sampled_from([0, 1, 3, 100])),
        "seed": draw(st.integers(0, 5)),
    }
    return Order(**(settings | fixed))  # type: ignore[arg-type]


@given(orders(), st.integers(0, 3))
def test_ranks_and_workers_share_every_clip_once(order: Order, epoch: int) -> None:
    seen = [clip for rank in range(order.ranks) for s in range(order.streams) for clip in stream(order, epoch, rank, s)]
    assert sorted(seen) == [(shard, i) for shard, count in enumerate(order.counts) for i in range(count)]


@given(orders(even=True), st.integers(0, 3))
def test_training_ranks_keep_step(order: Order, epoch: int) -> None:
    ranks = [batches(order, epoch, rank) for rank in range(order.ranks)]
    total = sum(order.counts)
    steps = -(-total // order.batch_size)
    assert {len(rank) for rank in ranks} == {order.share(0).batches} == {steps}
    assert {clip for rank in ranks for batch in rank for clip in batch} == {
        (shard, i) for shard, count in enumerate(order.counts) for i in range(count)
    }
    assert sum(len(batch) for rank in ranks for batch in rank) - total < order.ranks
    for rank in ranks:
        assert sum(len(batch) < order.local for batch in rank) <= 1


@given(orders(even=True, drop_last=True), st.integers(0, 3))
def test_without_the_last_every_batch_is_full(order: Order, epoch: int) -> None:
    total = sum(order.counts)
    if total < order.batch_size:
        return
    seen = [batch for rank in range(order.ranks) for batch in batches(order, epoch, rank)]
    assert {len(batch) for batch in seen} == {order.local}
    clips = [clip for batch in seen for clip in batch]
    assert len(set(clips)) == len(clips) == total - total % order.batch_size


def test_epochs_and_seeds_differ_and_repeat() -> None:
    order = Order(counts=(20, 20, 20), batch_size=4, shuffle=16, streams=2, seed=1)
    first = batches(order, 0, 0)
    assert first == batches(order, 0, 0)
    assert first != batches(order, 1, 0)
    assert first != batches(Order(counts=(20, 20, 20), batch_size=4, shuffle=16, streams=2, seed=2), 0, 0)


def test_without_shuffling_clips_come_as_they_lie() -> None:
    order = Order(counts=(3, 2), batch_size=2)
    assert batches(order, 0, 0) == [[(0, 0), (0, 1)], [(0, 2), (1, 0)], [(1, 1)]]


def test_clips_are_mixed_well() -> None:
    order = Order(counts=(100,) * 5, batch_size=10, shuffle=100)
    means = [sum(100 * shard + i for shard, i in batch) / 10 for batch in batches(order, 0, 0)]
    shards = [len({shard for shard, _ in batch}) for batch in batches(order, 0, 0)]
    assert sum(count > 1 for count in shards) > 30
    assert means != sorted(means)
