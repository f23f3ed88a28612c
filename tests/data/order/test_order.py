"""Every clip once, in an order that its seed decides."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.data.order import FixedOrder, HeldOutOrder, Order, SecondsOrder, Source
from w2v_abx.data.order.balance import draw, expected_counts
from w2v_abx.data.order.reading import shuffled

Unit = tuple[int, int]  # corpus, number


def batches(order: Order, epoch: int, rank: int) -> list[list[Unit]]:
    """A rank's batches."""
    parts = order.epoch(epoch, rank)
    made: list[list[Unit]] = [[] for _ in range(order.steps)]
    for corpus, part in enumerate(parts):
        assert len(part.units) == len(part.epochs) == len(part.repeats) == len(part.due) == part.sizes.sum()
        assert len(part.sizes) == order.steps
        groups = np.split(part.units[part.due], np.cumsum(part.sizes)[:-1])
        for batch, units in zip(made, groups, strict=True):
            batch += [(corpus, int(unit)) for unit in units]
    return made


def every(source: Source, corpus: int = 0) -> list[Unit]:
    return [(corpus, number) for number in range(len(source))]


def lengths_of(order: FixedOrder | SecondsOrder, batch: list[Unit]) -> np.ndarray:
    return np.array([order.sources[corpus].lengths[number] for corpus, number in batch])


def source(counts: tuple[int, ...], lengths: np.ndarray | None = None, **options: Any) -> Source:
    return Source(counts, np.full(sum(counts), 1600) if lengths is None else lengths, **options)


counts = st.lists(st.integers(1, 9), min_size=1, max_size=8).map(tuple)


@st.composite
def sources(draw: st.DrawFn, weight: float = 0.0) -> Source:
    of = draw(counts)
    lengths = draw(st.lists(st.integers(400, 9000), min_size=sum(of), max_size=sum(of)))
    return Source(of, np.array(lengths), (draw(st.integers(0, 5)),), weight)


@st.composite
def orders(draw: st.DrawFn, mixed: tuple[Source, ...] = (), **fixed: Any) -> FixedOrder:
    ranks = draw(st.integers(1, 4))
    settings = {
        "sources": (draw(sources()), *mixed),
        "batch_size": ranks * draw(st.integers(1, 5)),
        "ranks": ranks,
        "shuffle": draw(st.sampled_from([1, 3, 100])),
        "seed": draw(st.integers(0, 5)),
        "window": draw(st.sampled_from([None, 2, 3])),
    }
    return FixedOrder(**(settings | fixed))


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[Source, ...]:
    return tuple(
        draw(sources(weight=weight)) for weight in draw(st.lists(st.floats(0.05, 0.4), min_size=1, max_size=2))
    )


@st.composite
def mixes(draw: st.DrawFn) -> FixedOrder:
    return draw(orders(draw(mixtures()), drop_last=draw(st.booleans())))


@st.composite
def timed(draw: st.DrawFn, mixed: tuple[Source, ...] = ()) -> SecondsOrder:
    of = (draw(sources()), *mixed)
    ranks = draw(st.integers(1, 3))
    longest = max(source.lengths.max() for source in of)
    return SecondsOrder(
        of,
        budget=int(ranks * longest * draw(st.floats(1, 8))),
        max_padding=draw(st.sampled_from([0.05, 0.3, 0.9])),
        ranks=ranks,
        shuffle=draw(st.sampled_from([1, 3, 100])),
        seed=draw(st.integers(0, 5)),
    )


@given(st.lists(sources(), min_size=1, max_size=3), st.integers(1, 4), st.integers(1, 5))
def test_ranks_share_every_held_out_clip_once(of: list[Source], ranks: int, local: int) -> None:
    order = HeldOutOrder(tuple(of), ranks * local, ranks)
    if sum(map(len, of)) < ranks:
        return
    found = [batches(order, 0, rank) for rank in range(ranks)]
    assert [unit for rank in found for batch in rank for unit in batch] == [
        unit for corpus, each in enumerate(of) for unit in every(each, corpus)
    ]
    assert {len(rank) for rank in found} == {order.steps}
    sizes = [len(batch) for rank in found for batch in rank]
    assert min(sizes) > 0
    assert max(sizes) <= (local if local > 1 else 2)


@given(orders(), st.integers(0, 3))
def test_training_ranks_keep_step(order: FixedOrder, epoch: int) -> None:
    ranks = [batches(order, epoch, rank) for rank in range(order.ranks)]
    total = len(order.sources[0])
    steps = -(-total // order.batch_size)
    assert {len(rank) for rank in ranks} == {order.steps} == {steps}
    assert {clip for rank in ranks for batch in rank for clip in batch} == set(every(order.sources[0]))
    assert sum(len(batch) for rank in ranks for batch in rank) - total < order.ranks
    for rank in ranks:
        assert sum(len(batch) < order.batch_size // order.ranks for batch in rank) <= 1


@given(orders(drop_last=True), st.integers(0, 3))
def test_without_the_last_every_batch_is_full(order: FixedOrder, epoch: int) -> None:
    total = len(order.sources[0])
    if total < order.batch_size:
        return
    seen = [batch for rank in range(order.ranks) for batch in batches(order, epoch, rank)]
    assert {len(batch) for batch in seen} == {order.batch_size // order.ranks}
    clips = [clip for batch in seen for clip in batch]
    assert len(set(clips)) == len(clips) == total - total % order.batch_size


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first, other = (
        FixedOrder((source((20, 20, 20), seed=(seed,)),), batch_size=4, shuffle=16, seed=seed) for seed in (1, 2)
    )
    assert batches(first, 0, 0) == batches(first, 0, 0)
    assert batches(first, 0, 0) != batches(first, 1, 0)
    assert batches(first, 0, 0) != batches(other, 0, 0)


def test_clips_are_mixed_well() -> None:
    order = FixedOrder((source((100,) * 5),), batch_size=10, shuffle=100)
    made = batches(order, 0, 0)
    means = [np.mean([number for _, number in batch]) for batch in made]
    assert sum(len({number // 100 for _, number in batch}) > 1 for batch in made) > 30
    assert means != sorted(means)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_a_shuffle_moves_no_clip_further_than_it_says(count: int, size: int, seed: int) -> None:
    places = shuffled(count, size, np.random.default_rng(seed))
    assert sorted(places) == list(range(count))
    assert (np.abs(places - np.arange(count)) < size).all()


def test_ranks_read_their_own_shards_in_sequence() -> None:
    order = FixedOrder((source((50,) * 8),), batch_size=20, ranks=2)
    for rank in range(2):
        units = order.epoch(3, rank)[0].units
        assert (np.diff(units) != 1).sum() <= 5  # from one shard to another


# Several corpora


@given(mixes())
def test_each_batch_has_its_share_of_every_corpus(order: FixedOrder) -> None:
    mixed = order.sources[1:]
    if not order.steps:
        return
    taken: list[list[Unit]] = [[] for _ in mixed]
    for epoch in range(4):
        ranks = [batches(order, epoch, rank) for rank in range(order.ranks)]
        steps = [[clip for rank in ranks for clip in rank[step]] for step in range(order.steps)]
        main = [clip for step in steps for clip in step if clip[0] == 0]
        if order.drop_last:
            assert len(set(main)) == len(main)
        else:
            assert sorted(main) == every(order.sources[0])
        for step, clips in enumerate(steps):
            # The last batch takes what is left.
            assert len(clips) == order.batch_size or (step == order.steps - 1 and not order.drop_last)
        # Whatever part of an epoch: as many as its share of the epoch says, to a clip or two.
        total = sum(map(len, steps))
        for corpus in range(1, len(mixed) + 1):
            of = np.array([sum(clip[0] == corpus for clip in clips) for clips in steps])
            sizes = np.array([len(clips) for clips in steps])
            share = of.sum() / total
            assert (np.abs(np.cumsum(of) - share * np.cumsum(sizes)) <= len(mixed) + 1).all()
            taken[corpus - 1] += [clip for clips in steps for clip in clips if clip[0] == corpus]
    if order.drop_last:
        return
    # In the long run: as the weights say, but for what the last batches of the epochs needed to hold a clip each.
    for each, clips in zip(mixed, taken, strict=True):
        ideal = 4 * len(order.sources[0]) * each.weight / (1 - sum(other.weight for other in mixed))
        slack = len(mixed) + (4 * order.ranks if len(clips) > ideal else 0)
        assert -len(mixed) <= len(clips) - ideal <= slack
        assert_one_pass_after_the_other(each, clips)


def assert_one_pass_after_the_other(mixed: Source, clips: list[Unit]) -> None:
    """No clip comes a second time before all have come."""
    seen = Counter(number for _, number in clips)
    times = [seen[number] for number in range(len(mixed))]
    assert max(times) - min(times) <= 1


def test_weights_hold_in_the_long_run() -> None:
    main, *mixed = source((23,)), source((7, 6), weight=0.2, seed=(1,)), source((50,), weight=0.15, seed=(2,))
    order = FixedOrder((main, *mixed), 4, shuffle=8)
    seen: Counter[int] = Counter()
    for epoch in range(100):
        seen.update(clip[0] for batch in batches(order, epoch, 0) for clip in batch)
    total = seen.total()
    assert seen[0] == 2300
    assert abs(seen[1] - 0.2 * total) < 2
    assert abs(seen[2] - 0.15 * total) < 2


@given(counts, st.integers(0, 4), st.integers(0, 60), st.integers(1, 60))
def test_a_span_is_part_of_epoch_after_epoch(of: tuple[int, ...], seed: int, start: int, size: int) -> None:
    corpus = source(of, seed=(seed,))
    whole = np.stack(corpus.span(0, start + size))
    assert np.array_equal(np.stack(corpus.span(start, start + size)), whole[:, start:])
    for epoch in range((start + size) // len(corpus)):
        units, epochs, _ = whole[:, epoch * len(corpus) : (epoch + 1) * len(corpus)]
        assert sorted(units) == list(range(len(corpus)))
        assert set(epochs) == {epoch}


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
        clips, repeats, passes = draw(expected, epoch, [seed])
        counts = np.bincount(clips, minlength=len(weights))
        assert len(clips) == len(weights)
        assert (counts >= np.floor(expected - 1e-6)).all()
        assert (counts <= np.ceil(expected + 1e-6)).all()
        for clip in np.flatnonzero(counts):
            assert sorted(repeats[clips == clip]) == list(range(counts[clip]))
        most = min(16, int(np.ceil(expected.max())))
        for number in range(passes.max() + 1):
            part = clips[passes == number]
            assert (np.diff(part) >= 0).all()
            assert (np.bincount(part, minlength=len(weights)) <= np.ceil(counts / most)).all()
        total += counts
    assert (np.abs(total - 12 * expected) < 4).all()  # the epochs together are fairer than each


@given(orders(), st.integers(0, 3), st.data())
def test_a_balanced_epoch_is_as_long_and_ranks_keep_step(order: FixedOrder, epoch: int, data: st.DataObject) -> None:
    (main,) = order.sources
    weights = np.array(data.draw(st.lists(st.floats(0.1, 10), min_size=len(main), max_size=len(main))))
    expected = weights * len(main) / weights.sum()
    balanced = replace(order, sources=(replace(main, expected=expected),))
    ranks = [batches(balanced, epoch, rank) for rank in range(order.ranks)]
    assert {len(rank) for rank in ranks} == {order.steps}
    seen = Counter(number for rank in ranks for batch in rank for _, number in batch)
    assert 0 <= seen.total() - len(main) < order.ranks
    assert not Counter(draw(expected, epoch, main.seed)[0].tolist()) - seen


def test_the_repeats_of_a_clip_lie_apart() -> None:
    expected = np.full(200, 0.5)
    expected[::20] = 10.5
    order = FixedOrder((source((50,) * 4, expected=expected),), 10, shuffle=20)
    places = [place for place, batch in enumerate(batches(order, 0, 0)) if (0, 60) in batch]
    assert len(places) >= 8


def test_the_repeats_of_a_clip_are_not_sorted_into_one_batch() -> None:
    lengths = np.random.default_rng(0).integers(8000, 160_000, 4000)
    expected = np.full(4000, 3800 / 3980)
    expected[::200] = 10
    order = FixedOrder((source((250,) * 16, lengths, expected=expected),), 16, window=250)
    most = np.array([Counter(batch).most_common(1)[0][1] for batch in batches(order, 0, 0)])
    assert most.max() <= 3
    assert (most == 1).mean() > 0.6


# Like lengths


def assert_bounds(order: SecondsOrder, batch: list[Unit]) -> None:
    lengths = lengths_of(order, batch)
    assert len(lengths) * lengths.max() * order.ranks <= order.budget
    assert 1 - lengths.mean() / lengths.max() <= order.max_padding + 1e-9


@given(timed(), st.integers(0, 3))
def test_batches_of_seconds_hold_their_bounds(order: SecondsOrder, epoch: int) -> None:
    ranks = [batches(order, epoch, rank) for rank in range(order.ranks)]
    clips = [clip for rank in ranks for batch in rank for clip in batch]
    assert set(clips) == set(every(order.sources[0]))
    assert len(clips) - len(set(clips)) < order.ranks
    for rank in ranks:
        for batch in rank:
            assert_bounds(order, batch)


@given(st.data())
def test_batches_of_seconds_mix_corpora(data: st.DataObject) -> None:
    order = data.draw(timed(data.draw(mixtures())))
    main, *mixed = order.sources
    taken: list[list[Unit]] = [[] for _ in order.sources]
    for epoch in range(4):
        made = [batch for rank in range(order.ranks) for batch in batches(order, epoch, rank)]
        for batch in made:
            assert_bounds(order, batch)
            for clip in batch:
                taken[clip[0]].append(clip)
        own = Counter(clip for batch in made for clip in batch if clip[0] == 0)
        assert set(own) == set(every(main))
        assert own.total() - len(own) < order.ranks * len(order.sources)
    for number, each in enumerate(mixed, 1):
        ideal = 4 * len(main) * each.weight / (1 - sum(other.weight for other in mixed))
        assert abs(len(taken[number]) - ideal) < 4
        for bucket in np.unique(order._buckets[number]):
            members = np.flatnonzero(order._buckets[number] == bucket)
            seen = Counter(clip for _, clip in taken[number])
            times = [seen[int(clip)] for clip in members]
            assert max(times) - min(times) <= 1


@given(timed())
def test_the_order_of_batches_of_seconds_repeats(order: SecondsOrder) -> None:
    assert batches(order, 2, 0) == batches(replace(order), 2, 0)


def speech(seed: int = 0, clips: int = 4000, weight: float = 0.0) -> Source:
    """Utterances of 1 to 20 s."""
    lengths = (16000 * np.clip(np.random.default_rng(seed).gamma(4, 2, clips), 1, 20)).astype(np.int64)
    return Source((500,) * (clips // 500), lengths, (seed,), weight)


def padding(order: FixedOrder | SecondsOrder) -> float:
    """The share of an epoch's samples that are padding."""
    lengths = [lengths_of(order, batch) for rank in range(order.ranks) for batch in batches(order, 0, rank)]
    return 1 - sum(of.sum() for of in lengths) / sum(len(of) * of.max() for of in lengths)


def test_little_is_padding() -> None:
    main, mixed = speech(), speech(1, 2000, weight=0.3)
    assert padding(FixedOrder((main,), 16)) > 0.4
    assert padding(FixedOrder((main,), 16, window=32)) < 0.05
    for order in (SecondsOrder((main,), 160 * 16000, 0.1), SecondsOrder((main, mixed), 160 * 16000, 0.1, ranks=2)):
        assert padding(order) < 0.06
        sizes = [len(batch) * lengths_of(order, batch).max() / 16000 for batch in batches(order, 0, 0)]
        assert np.mean(sizes) > 0.85 * 160 / order.ranks


def test_batches_of_seconds_have_whatever_corpora_are_of_like_length() -> None:
    order = SecondsOrder((speech(), speech(1, 2000, weight=0.3)), 160 * 16000, 0.1)
    made = batches(order, 1, 0)
    assert sum(len({corpus for corpus, _ in batch}) == 2 for batch in made) > 0.8 * len(made)


def test_epochs_make_other_batches() -> None:
    for order in (SecondsOrder((speech(),), 160 * 16000, 0.1), FixedOrder((speech(),), 16, window=32)):
        first, second = ({frozenset(batch) for batch in batches(order, epoch, 0)} for epoch in range(2))
        assert len(first & second) < 0.1 * len(first)  # clips of a rare length have no others to come with
        longest = [lengths_of(order, batch).max() for batch in batches(order, 0, 0)]
        assert np.abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2  # short and long ones alternate


def test_like_lengths_come_in_the_same_step_on_every_rank() -> None:
    order = FixedOrder((speech(),), 32, ranks=2, window=32)
    ranks = [[lengths_of(order, batch).max() for batch in batches(order, 0, rank)] for rank in range(2)]
    assert np.corrcoef(*ranks)[0, 1] > 0.9
