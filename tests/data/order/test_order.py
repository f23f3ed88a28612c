"""Every clip once, in an order that its seed decides."""

from collections import Counter
from itertools import zip_longest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.data.order import Mixed, Order, SecondsOrder, Sequence, padding
from w2v_abx.data.order.balance import draw, expected_counts
from w2v_abx.data.order.lane import buffered

Clip = tuple[int, int, int]  # corpus, shard, number


def lane(order: Order | SecondsOrder, epoch: int, rank: int, stream: int) -> list[list[Clip]]:
    """The batches of one stream."""
    found = order.lane(epoch, rank, stream)
    clips = [
        [(corpus, stretch.shard, int(number)) for stretch in stretches for number in stretch.numbers]
        for corpus, stretches in enumerate(found.stretches)
    ]
    return [
        [clips[corpus][ticket] for corpus, tickets in enumerate(batch) for ticket in tickets]
        for batch in found.tickets()
    ]


def batches(order: Order | SecondsOrder, epoch: int, rank: int) -> list[list[Clip]]:
    """A rank's batches as its workers take turns."""
    streams = [lane(order, epoch, rank, stream) for stream in range(order.streams)]
    return [batch for turn in zip_longest(*streams) for batch in turn if batch is not None]


def every(counts: tuple[int, ...], corpus: int = 0) -> list[Clip]:
    return [(corpus, shard, i) for shard, count in enumerate(counts) for i in range(count)]


def lengths_of(order: Order | SecondsOrder, batch: list[Clip]) -> np.ndarray:
    assert order.lengths is not None
    firsts = np.cumsum([0, *order.counts])
    return np.array([order.lengths[firsts[shard] + number] for _, shard, number in batch])


counts = st.lists(st.integers(1, 9), min_size=1, max_size=8).map(tuple)


@st.composite
def orders(draw: st.DrawFn, **fixed: object) -> Order:
    ranks = draw(st.integers(1, 4))
    settings = {
        "counts": draw(counts),
        "batch_size": ranks * draw(st.integers(1, 5)),
        "ranks": ranks,
        "streams": draw(st.integers(1, 4)),
        "shuffle": draw(st.sampled_from([0, 1, 3, 100])),
        "seed": draw(st.integers(0, 5)),
    }
    if window := draw(st.sampled_from([None, 2, 3])):
        lengths = draw(st.lists(st.integers(400, 9000), min_size=72, max_size=72))
        settings |= {"window": window, "lengths": np.array(lengths[: sum(settings["counts"])])}  # type: ignore[arg-type, index]
    return Order(**(settings | fixed))  # type: ignore[arg-type]


@st.composite
def mixes(draw: st.DrawFn) -> Order:
    shares = draw(st.lists(st.floats(0.05, 0.4), min_size=1, max_size=2))
    mixed = tuple(Mixed(draw(counts), share) for share in shares)
    return draw(orders(even=True, mixed=mixed, window=None, lengths=None, drop_last=draw(st.booleans())))


@st.composite
def timed(draw: st.DrawFn) -> SecondsOrder:
    of = draw(counts)
    lengths = np.array(draw(st.lists(st.integers(400, 9000), min_size=sum(of), max_size=sum(of))))
    ranks = draw(st.integers(1, 3))
    return SecondsOrder(
        counts=of,
        lengths=lengths,
        budget=int(ranks * lengths.max() * draw(st.floats(1, 8))),
        waste=draw(st.sampled_from([0.05, 0.3, 0.9])),
        ranks=ranks,
        streams=draw(st.integers(1, 3)),
        shuffle=draw(st.sampled_from([1, 3, 100])),
        seed=draw(st.integers(0, 5)),
    )


@given(orders(), st.integers(0, 3))
def test_ranks_and_workers_share_every_clip_once(order: Order, epoch: int) -> None:
    seen = [clip for rank in range(order.ranks) for batch in batches(order, epoch, rank) for clip in batch]
    assert sorted(seen) == every(order.counts)
    assert [order.batches(rank) for rank in range(order.ranks)] == [
        len(batches(order, epoch, rank)) for rank in range(order.ranks)
    ]


@given(orders(even=True), st.integers(0, 3))
def test_training_ranks_keep_step(order: Order, epoch: int) -> None:
    ranks = [batches(order, epoch, rank) for rank in range(order.ranks)]
    total = sum(order.counts)
    steps = -(-total // order.batch_size)
    assert {len(rank) for rank in ranks} == {order.batches(0)} == {steps}
    assert {clip for rank in ranks for batch in rank for clip in batch} == set(every(order.counts))
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
    assert batches(order, 0, 0) == [[(0, 0, 0), (0, 0, 1)], [(0, 0, 2), (0, 1, 0)], [(0, 1, 1)]]


def test_clips_are_mixed_well() -> None:
    order = Order(counts=(100,) * 5, batch_size=10, shuffle=100)
    means = [sum(100 * shard + i for _, shard, i in batch) / 10 for batch in batches(order, 0, 0)]
    shards = [len({shard for _, shard, _ in batch}) for batch in batches(order, 0, 0)]
    assert sum(count > 1 for count in shards) > 30
    assert means != sorted(means)


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 3))
def test_a_buffer_holds_no_more_than_its_size(count: int, size: int, seed: int) -> None:
    given = buffered(count, size, np.random.default_rng(seed)).tolist()
    assert sorted(given) == list(range(count))
    assert all(ticket <= place + size for place, ticket in enumerate(given))


# Several corpora


@given(mixes())
def test_each_batch_has_its_share_of_every_corpus(order: Order) -> None:
    taken: list[list[Clip]] = [[] for _ in order.mixed]
    for epoch in range(4):
        ranks = [batches(order, epoch, rank) for rank in range(order.ranks)]
        assert {len(rank) for rank in ranks} == {order.steps}
        steps = [[clip for rank in ranks for clip in rank[step]] for step in range(order.steps)]
        main = [clip for step in steps for clip in step if clip[0] == 0]
        if order.drop_last:
            assert len(set(main)) == len(main)
        else:
            assert sorted(main) == every(order.counts)
        for step, clips in enumerate(steps):
            # The last batch takes what is left.
            assert len(clips) == order.batch_size or (step == order.steps - 1 and not order.drop_last)
        # Whatever stretch of an epoch: as many as its share of the epoch says, to a clip or two.
        total = sum(map(len, steps))
        for corpus in range(1, len(order.mixed) + 1):
            of = np.array([sum(clip[0] == corpus for clip in clips) for clips in steps])
            sizes = np.array([len(clips) for clips in steps])
            share = of.sum() / total
            assert (np.abs(np.cumsum(of) - share * np.cumsum(sizes)) <= len(order.mixed) + 1).all()
            taken[corpus - 1] += [clip for clips in steps for clip in clips if clip[0] == corpus]
    if order.drop_last:
        return
    # In the long run: as the weights say, but for what the last batches of the epochs needed to hold a clip each.
    for mixed, clips in zip(order.mixed, taken, strict=True):
        ideal = 4 * order.clips * mixed.weight / (1 - sum(other.weight for other in order.mixed))
        slack = len(order.mixed) + (4 * order.ranks if len(clips) > ideal else 0)
        assert -len(order.mixed) <= len(clips) - ideal <= slack
        # One pass after the other: no clip a second time before all have come.
        seen = Counter((shard, number) for _, shard, number in clips)
        times = [seen[shard, number] for _, shard, number in every(mixed.counts)]
        assert max(times) - min(times) <= 1


def test_weights_hold_in_the_long_run() -> None:
    order = Order((23,), 4, shuffle=8, even=True, mixed=(Mixed((7, 6), 0.2), Mixed((50,), 0.15)))
    seen: Counter[int] = Counter()
    for epoch in range(100):
        seen.update(clip[0] for batch in batches(order, epoch, 0) for clip in batch)
    total = seen.total()
    assert seen[0] == 2300
    assert abs(seen[1] - 0.2 * total) < 2
    assert abs(seen[2] - 0.15 * total) < 2


@given(counts, st.integers(0, 4), st.integers(0, 60), st.integers(0, 60))
def test_an_endless_sequence_is_epoch_after_epoch(of: tuple[int, ...], seed: int, start: int, size: int) -> None:
    sequence = Sequence(of, True, seed)

    def clips(first: int, last: int) -> list[tuple[int, int]]:
        return [(part.shard, int(i)) for part in sequence.endless(first, last) for i in part.numbers]

    whole = clips(0, start + size)
    assert clips(start, start + size) == whole[start:]
    for first in range(0, len(whole) - sequence.clips + 1, sequence.clips):
        assert len(set(whole[first : first + sequence.clips])) == sequence.clips


# Balance


def test_every_category_comes_equally_often() -> None:
    carried = [("common",), ("rare",), ()]
    numbers = np.array([0] * 80 + [1] * 4 + [2] * 16)
    expected = expected_counts(numbers, carried, strength=1.0)
    assert np.allclose([expected[numbers == kind].sum() for kind in range(3)], 100 / 3)
    assert np.allclose(expected_counts(numbers, carried, strength=0.0), 1.0)
    half = expected_counts(numbers, carried, strength=0.5)
    assert np.isclose(half[80] / half[0], np.sqrt(80 / 4))


def test_a_clip_of_several_categories_has_their_mean_weight() -> None:
    numbers = np.array([0, 0, 0, 1])
    expected = expected_counts(numbers, [("a",), ("a", "b")], 1.0)
    assert np.isclose(expected[3] / expected[0], (1 / 4 + 1) / 2 / (1 / 4))


@given(st.lists(st.floats(0.01, 20), min_size=1, max_size=40), st.integers(0, 5))
def test_counts_are_the_expected_ones_rounded(weights: list[float], seed: int) -> None:
    expected = np.array(weights) * len(weights) / sum(weights)
    total = np.zeros(len(weights))
    for epoch in range(12):
        drawn = draw(expected, epoch, seed)
        counts = np.bincount(drawn.clips, minlength=len(weights))
        assert len(drawn.clips) == len(weights)
        assert (counts >= np.floor(expected - 1e-6)).all()
        assert (counts <= np.ceil(expected + 1e-6)).all()
        for clip in np.flatnonzero(counts):
            assert sorted(drawn.turns[drawn.clips == clip]) == list(range(counts[clip]))
        for first, last in zip(drawn.passes, drawn.passes[1:], strict=False):
            part = drawn.clips[first:last]
            assert (np.diff(part) >= 0).all()
            assert (np.bincount(part, minlength=len(weights)) <= np.ceil(counts / (len(drawn.passes) - 1))).all()
        total += counts
    assert (np.abs(total - 12 * expected) < 4).all()  # the epochs together are fairer than each


@given(orders(even=True), st.integers(0, 3), st.data())
def test_a_balanced_epoch_is_as_long_and_ranks_keep_step(order: Order, epoch: int, data: st.DataObject) -> None:
    weights = np.array(data.draw(st.lists(st.floats(0.1, 10), min_size=order.clips, max_size=order.clips)))
    expected = weights * order.clips / weights.sum()
    settings = {name: getattr(order, name) for name in Order.__dataclass_fields__}
    balanced = Order(**(settings | {"expected": expected}))
    ranks = [batches(balanced, epoch, rank) for rank in range(order.ranks)]
    assert {len(rank) for rank in ranks} == {order.steps}
    seen = Counter(clip for rank in ranks for batch in rank for clip in batch)
    assert 0 <= seen.total() - order.clips < order.ranks
    firsts = np.cumsum([0, *order.counts])
    drawn = Counter(draw(expected, epoch, order.seed).clips.tolist())
    found = Counter({int(firsts[shard]) + number: times for (_, shard, number), times in seen.items()})
    assert not drawn - found


def test_the_turns_of_a_clip_lie_apart() -> None:
    expected = np.full(200, 0.5)
    expected[::20] = 10.5
    order = Order((50,) * 4, 10, shuffle=20, even=True, expected=expected)
    places = [place for place, batch in enumerate(batches(order, 0, 0)) if (0, 1, 10) in batch]
    assert len(places) >= 8


# Like lengths


@given(timed(), st.integers(0, 3))
def test_batches_of_seconds_hold_their_bounds(order: SecondsOrder, epoch: int) -> None:
    ranks = [batches(order, epoch, rank) for rank in range(order.ranks)]
    assert {len(rank) for rank in ranks} == {order.batches(0)}
    clips = [clip for rank in ranks for batch in rank for clip in batch]
    assert set(clips) == set(every(order.counts))
    assert len(clips) - len(set(clips)) < order.ranks * order.streams
    for rank in ranks:
        for batch in rank:
            lengths = lengths_of(order, batch)
            assert len(lengths) * lengths.max() * order.ranks <= order.budget
            assert 1 - lengths.mean() / lengths.max() <= order.waste + 1e-9


@given(timed())
def test_the_order_of_batches_of_seconds_repeats(order: SecondsOrder) -> None:
    again = SecondsOrder(**{name: getattr(order, name) for name in SecondsOrder.__dataclass_fields__})
    assert batches(order, 2, 0) == batches(again, 2, 0)


def speech() -> tuple[tuple[int, ...], np.ndarray]:
    """Utterances of 1 to 20 s."""
    generator = np.random.default_rng(0)
    return (500,) * 8, (16000 * np.clip(generator.gamma(4, 2, 4000), 1, 20)).astype(np.int64)


def test_little_is_padding() -> None:
    counts, lengths = speech()
    plain = Order(counts, 16, shuffle=256, even=True, lengths=lengths)
    alike = Order(counts, 16, shuffle=256, even=True, lengths=lengths, window=32)
    timed = SecondsOrder(counts, lengths, 160 * 16000, 0.1, shuffle=256)
    assert padding(plain, [lengths]) > 0.4
    assert padding(alike, [lengths]) < 0.05
    assert padding(timed, [lengths]) < 0.06
    sizes = [len(batch) * lengths_of(timed, batch).max() / 16000 for batch in batches(timed, 0, 0)]
    assert np.mean(sizes) > 0.85 * 160


def test_epochs_make_other_batches() -> None:
    counts, lengths = speech()
    for order in (
        SecondsOrder(counts, lengths, 160 * 16000, 0.1, shuffle=256, streams=2),
        Order(counts, 16, shuffle=256, even=True, lengths=lengths, window=32),
    ):
        first, second = ({frozenset(batch) for batch in batches(order, epoch, 0)} for epoch in range(2))
        assert len(first & second) < 0.1 * len(first)  # clips of a rare length have no others to come with
        longest = [lengths_of(order, batch).max() for batch in batches(order, 0, 0)]
        assert np.abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2  # short and long ones alternate


def test_like_lengths_come_in_the_same_step_on_every_rank() -> None:
    counts, lengths = speech()
    order = Order(counts, 32, ranks=2, shuffle=256, even=True, lengths=lengths, window=32)
    ranks = [[lengths_of(order, batch).max() for batch in batches(order, 0, rank)] for rank in range(2)]
    assert np.corrcoef(*ranks)[0, 1] > 0.9


@given(orders(), st.integers(0, 3))
def test_ranks_that_evaluate_keep_step_too(order: Order, epoch: int) -> None:
    sizes = order.quotas(epoch)[..., 0]
    if order.clips < order.ranks:
        return
    assert len({order.batches(rank) for rank in range(order.ranks)}) == 1
    assert sizes.sum() == order.clips
    assert sizes.max() <= max(2, order.local)
    assert (sizes[: order.batches(0)] > 0).all()
