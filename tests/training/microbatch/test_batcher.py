"""A batch is handed out whole, in order, in pieces no larger than what holds."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from elastic import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_abx.data.batch import longest_clips
from w2v_abx.errors import InputError
from w2v_abx.training.microbatch import Batch, MicroBatcher, batch_size

RATE = 16_000


@given(
    clips=st.integers(1, 9),
    start=st.none() | st.integers(1, 9),
    limits=st.lists(st.none() | st.integers(1, 9), max_size=9),
)
@settings(max_examples=60)
def test_each_clip_is_handed_out_once_in_order(clips: int, start: int | None, limits: list[int | None]) -> None:
    batch = {**make_batch(1, clips), "count": torch.tensor(5), "rate": 50.0, "note": None}
    batcher = MicroBatcher(start)
    plan: Iterator[int | None] = iter(limits)
    allowed: list[int] = []

    def change() -> None:
        batcher.limit("heat", next(plan, None))
        allowed.append(batcher.size or clips)

    batcher.hooks.append(change)
    micros = list(batcher.split(batch))
    assert [key for micro in micros for key in micro["keys"]] == batch["keys"]
    torch.testing.assert_close(torch.cat([micro["targets"]["labels"] for micro in micros]), batch["targets"]["labels"])
    for micro, size in zip(micros, allowed, strict=True):
        assert batch_size(micro) <= size
        assert micro["waveforms"].shape[1] == micro["lengths"].max()
        assert (micro["count"], micro["rate"], micro["note"]) == (torch.tensor(5), 50.0, None)
        for clip, key in enumerate(micro["keys"]):
            length = micro["lengths"][clip]
            whole_clip = batch["waveforms"][batch["keys"].index(key)]
            assert torch.equal(micro["waveforms"][clip, :length], whole_clip[:length])


def of_seconds(seconds: list[int]) -> Batch:
    """Clips of whole seconds."""
    lengths = torch.tensor(seconds) * RATE
    return {
        "keys": [str(i) for i in range(len(seconds))],
        "waveforms": torch.zeros(len(seconds), max(lengths)),
        "lengths": lengths,
    }


def sizes(batcher: MicroBatcher, seconds: list[int]) -> list[int]:
    return [batch_size(micro) for micro in batcher.split(of_seconds(seconds))]


@given(
    seconds=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    clips=st.none() | st.integers(1, 9),
    limit=st.integers(1, 40),
)
@settings(max_examples=60)
def test_a_piece_is_the_longest_run_within_both_limits(seconds: list[int], clips: int | None, limit: int) -> None:
    def fits(run: list[int]) -> bool:
        return len(run) == 1 or (len(run) <= (clips or 99) and len(run) * max(run) <= limit)

    expected, left = [], seconds
    while left:
        longest = max(size for size in range(1, len(left) + 1) if all(fits(left[: n + 1]) for n in range(size)))
        expected.append(longest)
        left = left[longest:]
    batcher = MicroBatcher(clips, limit)
    assert batcher.plan(of_seconds(seconds)) == [sum(expected[: n + 1]) for n in range(len(expected))]
    assert sizes(batcher, seconds) == expected


@given(clips=st.integers(1, 9), size=st.none() | st.integers(1, 9), wanted=st.integers(1, 12))
@settings(max_examples=40)
def test_as_many_pieces_as_others_need(clips: int, size: int | None, wanted: int) -> None:
    batcher, batch = MicroBatcher(size), make_batch(1, clips)
    least = len(batcher.plan(batch))
    micros = list(batcher.split_in(max(wanted, least), batch))
    assert len(micros) == min(clips, max(wanted, least))
    assert [key for micro in micros for key in micro["keys"]] == batch["keys"]
    assert max(map(batch_size, micros)) <= (size or clips)


def test_memory_halves_the_limit_that_binds() -> None:
    def shrunk(batcher: MicroBatcher, seconds: list[int]) -> tuple[int | None, int | None]:
        next(batcher.split(of_seconds(seconds)))
        batcher.halve()
        return batcher.size, batcher.samples

    assert shrunk(MicroBatcher(4), [1] * 8) == (2, None)
    assert shrunk(MicroBatcher(), [1] * 8) == (4, None)
    assert shrunk(MicroBatcher(4, 100), [1] * 8) == (2, 100 * RATE)
    assert shrunk(MicroBatcher(4, 6), [3] * 8) == (4, 3 * RATE)
    assert shrunk(MicroBatcher(None, 100), [3] * 4) == (None, 6 * RATE)  # the whole batch is 12 seconds
    with pytest.raises(InputError, match="single clip"):
        shrunk(MicroBatcher(4, 2), [3] * 8)


def test_a_lifted_limit_does_not_lift_another() -> None:
    batcher = MicroBatcher(16)
    batcher.memory["clips"].halve(16)
    batcher.limit("heat", 2)
    assert batcher.size == 2
    batcher.limit("heat", None)
    assert batcher.size == 8


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "all", "4"])
def test_bad_sizes_are_refused(size: Any) -> None:
    with pytest.raises(InputError, match=r"microbatch=.* must be a whole number of clips from 1, auto"):
        MicroBatcher(size)
    if size != "all":
        with pytest.raises(InputError, match="microbatch_grow_after=.* must be a whole number of steps from 1"):
            MicroBatcher(grow_after=size)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), True, "auto"])
def test_bad_seconds_are_refused(seconds: Any) -> None:
    with pytest.raises(InputError, match="microbatch_seconds=.* must be a positive number of seconds"):
        MicroBatcher(None, seconds)


def test_seconds_need_audio() -> None:
    with pytest.raises(InputError, match="give microbatch instead"):
        list(MicroBatcher(None, 1.0).split({"features": torch.zeros(3, 2)}))


def test_rows_that_do_not_match_are_named() -> None:
    batch = make_batch(0)
    batch["targets"]["labels"] = batch["targets"]["labels"][:-1]
    with pytest.raises(InputError, match=r"targets\.labels"):
        list(MicroBatcher().split(batch))


def test_the_longest_clip_many_times() -> None:
    batch = {**make_batch(1), "rate": 50.0}
    row = int(batch["lengths"].argmax())
    length = int(batch["lengths"][row])
    worst = longest_clips(batch, 3, length + 5)
    assert worst["keys"] == [batch["keys"][row]] * 3
    assert worst["lengths"].tolist() == [length + 5] * 3
    clip = batch["waveforms"][row, :length]
    assert torch.equal(worst["waveforms"], torch.cat([clip, clip[:5]]).expand(3, -1))
    assert torch.equal(worst["targets"]["labels"], batch["targets"]["labels"][row].expand(3, -1))
    assert worst["rate"] == 50.0


def test_the_longest_clip_of_each_corpus_in_turn() -> None:
    batch = {**make_batch(1), "corpora": list("aababbb")}
    lengths = batch["lengths"].tolist()
    rows = [max((row for row in range(7) if batch["corpora"][row] == name), key=lengths.__getitem__) for name in "ab"]
    worst = longest_clips(batch, 5, None)
    assert worst["keys"] == [batch["keys"][row] for row in (*rows, *rows, rows[0])]
    assert worst["corpora"] == list("ababa")
    assert worst["lengths"].tolist() == [max(lengths)] * 5
    short = min(lengths[row] for row in rows)
    clip = batch["waveforms"][rows[[lengths[row] for row in rows].index(short)]]
    repeated = worst["waveforms"][[lengths[row] for row in rows].index(short)]
    assert torch.equal(repeated, torch.cat([clip[:short], clip[: max(lengths) - short]]))
