"""A batch gives its clips, their targets and what was drawn for them together."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from elastic import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from w2v_abx.data.batch import Batch, Target, Whole, collate
from w2v_abx.errors import InputError

CLIPS = 7


def filled(clips: int = CLIPS) -> Batch:
    """Clips with all that a batch may hold; what belongs to a clip holds its number."""
    number = torch.arange(clips)
    ragged = Target(number[:, None].expand(-1, 3), number % 3 + 1, number % 2 == 0)
    batch = make_batch(1, clips)
    corpora, speakers = ([f"{what}{n % 2}" for n in range(clips)] for what in ("corpus", "speaker"))
    batch = replace(batch, corpora=corpora, speakers=speakers, targets={**batch.targets, "phones": ragged})
    own = {"mask": number[:, None].expand(-1, 4), "seeds": number.tolist(), "step": Whole(3)}
    return batch.with_extra(head=own, number=number, names=[str(n) for n in range(clips)], rate=Whole(torch.tensor(50)))


def assert_rows(taken: Batch, index: list[int], batch: Batch) -> None:
    """``taken`` is the clips of ``batch`` at ``index``, and no padding that none of them needs."""
    assert (len(taken), taken.keys) == (len(index), [batch.keys[row] for row in index])
    assert taken.corpora == [batch.corpora[row] for row in index]
    assert taken.speakers == [batch.speakers[row] for row in index]
    assert taken.lengths.tolist() == batch.lengths[index].tolist()
    assert torch.equal(taken.waveforms, batch.waveforms[index, : max(taken.lengths.tolist(), default=0)])
    for name, target in batch.targets.items():
        found = taken.targets[name]
        values = target.values[index]
        if found.lengths is not None:
            values = values[:, : max(found.lengths.tolist(), default=0)]
        assert torch.equal(found.values, values)
        assert torch.equal(found.present, target.present[index])
        assert (found.lengths is None) == (target.lengths is None)
    assert torch.equal(taken.targets["phones"].lengths, batch.targets["phones"].lengths[index])  # type: ignore[arg-type, index]
    assert taken.extra["number"].tolist() == taken.extra["head"]["seeds"] == index
    assert torch.equal(taken.extra["head"]["mask"], batch.extra["head"]["mask"][index])
    assert taken.extra["names"] == [str(row) for row in index]
    assert taken.extra["rate"] is batch.extra["rate"]
    assert taken.extra["head"]["step"] == Whole(3)


@given(st.lists(st.integers(0, CLIPS - 1), max_size=9))
@settings(max_examples=60)
def test_rows_take_what_belongs_to_their_clips(index: list[int]) -> None:
    batch = filled()
    assert_rows(batch.rows(index), index, batch)


def test_all_rows_are_trimmed_like_others() -> None:
    batch = filled()
    padded = replace(batch, waveforms=torch.nn.functional.pad(batch.waveforms, (0, 9)))
    assert_rows(padded.rows(range(CLIPS)), [*range(CLIPS)], batch)


@given(start=st.integers(0, CLIPS), stop=st.integers(0, CLIPS + 2))
@settings(max_examples=60)
def test_slices_are_rows_in_a_row(start: int, stop: int) -> None:
    batch = filled()
    assert_rows(batch.slice(start, stop), [*range(start, min(stop, CLIPS))], batch)


def test_with_extra_adds_and_leaves_the_batch_as_it_was() -> None:
    batch = filled()
    more = batch.with_extra(number=torch.zeros(CLIPS), other=Whole(None))
    assert more.extra.keys() == batch.extra.keys() | {"other"}
    assert not more.extra["number"].any()
    assert "other" not in batch.extra
    assert batch.extra["number"].tolist() == [*range(CLIPS)]
    assert more.waveforms is batch.waveforms


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.zeros(CLIPS - 1, 2), "6 entries"),
        ([0] * (CLIPS + 1), "8 entries"),
        (50.0, "a float"),
        (None, "a NoneType"),
        ("abcdefg", "a str"),
    ],
)
def test_what_does_not_belong_to_the_clips_is_named(value: Any, found: str) -> None:
    for batch, name in (
        (filled().with_extra(mask=value), "mask"),
        (filled().with_extra(head={"a": value}), r"head\.a"),
    ):
        for take in (lambda batch: batch.slice(0, 2), lambda batch: batch.rows([3])):
            with pytest.raises(
                InputError, match=rf"extra '{name}' has {found} for 7 clips: give one for each clip, or Whole\(value\)"
            ):
                take(batch)


def test_only_what_a_loss_computes_with_moves() -> None:
    batch = filled().with_extra(whole=Whole({"noise": torch.zeros(2), "text": "a"}))
    moved = batch.to(torch.device("meta"))
    assert (moved.keys, moved.corpora) == (batch.keys, batch.corpora)
    assert moved.lengths is batch.lengths
    assert moved.waveforms.is_meta
    assert moved.waveforms.shape == batch.waveforms.shape
    for name, target in moved.targets.items():
        assert target.values.is_meta
        assert target.present is batch.targets[name].present
        assert target.lengths is batch.targets[name].lengths
    assert moved.extra["number"].is_meta
    assert moved.extra["head"]["mask"].is_meta
    assert moved.extra["head"]["seeds"] == [*range(CLIPS)]
    assert isinstance(moved.extra["rate"], Whole)
    assert moved.extra["rate"].value.is_meta
    assert moved.extra["whole"].value["noise"].is_meta
    assert moved.extra["whole"].value["text"] == "a"
    assert not batch.waveforms.is_meta


def test_the_longest_clip_many_times() -> None:
    batch = make_batch(1).with_extra(rate=Whole(50.0))
    row = int(batch.lengths.argmax())
    length = int(batch.lengths[row])
    worst = batch.longest(3, length + 5)
    assert worst.keys == [batch.keys[row]] * 3
    assert worst.lengths.tolist() == [length + 5] * 3
    clip = batch.waveforms[row, :length]
    assert torch.equal(worst.waveforms, torch.cat([clip, clip[:5]]).expand(3, -1))
    assert torch.equal(worst.targets["labels"].values, batch.targets["labels"].values[row].expand(3, -1))
    assert worst.extra["rate"].value == 50.0


def test_the_longest_clip_of_each_corpus_in_turn() -> None:
    batch = replace(make_batch(1), corpora=list("aababbb"))
    lengths = batch.lengths.tolist()
    rows = [max((row for row in range(7) if batch.corpora[row] == name), key=lengths.__getitem__) for name in "ab"]
    worst = batch.longest(5, max(lengths))
    assert worst.keys == [batch.keys[row] for row in (*rows, *rows, rows[0])]
    assert worst.corpora == list("ababa")
    assert worst.lengths.tolist() == [max(lengths)] * 5
    short = min(range(2), key=lambda place: lengths[rows[place]])
    length = lengths[rows[short]]
    assert length < max(lengths)
    clip = batch.waveforms[rows[short], :length]
    assert torch.equal(worst.waveforms[short], torch.cat([clip, clip[: max(lengths) - length]]))


TARGETS = st.lists(st.none() | st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6)


@given(clips=TARGETS, dtype=st.sampled_from([torch.int64, torch.float32]))
def test_targets_of_any_length_are_padded(clips: list[list[int] | None], dtype: torch.dtype) -> None:
    made = [None if clip is None else torch.tensor(clip, dtype=dtype) for clip in clips]
    target = collate(made)
    assert target.present.tolist() == [clip is not None for clip in clips]
    assert len(target.values) == len(clips)
    assert target.values.dtype == (dtype if any(clip is not None for clip in clips) else torch.float32)
    sizes = {len(clip) for clip in clips if clip is not None}
    if target.lengths is None:
        assert len(sizes) <= 1
    else:
        assert target.lengths.tolist() == [len(clip or ()) for clip in clips]
    for row, clip in zip(target.values.reshape(len(clips), -1), clips, strict=True):
        assert row[: len(clip or ())].tolist() == (clip or [])
        assert padding(row[len(clip or ()) :])


def padding(values: Tensor) -> bool:
    """Whether all values are what a loss leaves out."""
    return bool((values.isnan() if values.is_floating_point() else values == -100).all())


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_targets_of_one_shape_are_stacked(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    one = torch.ones(shape, dtype=dtype)
    target = collate([one, None, 2 * one])
    assert target.lengths is None
    assert target.present.tolist() == [True, False, True]
    assert target.values.shape == (3, *shape)
    assert torch.equal(target.values[[0, 2]], torch.stack([one, 2 * one]))
    assert padding(target.values[1])


def test_clips_of_which_none_has_the_label() -> None:
    target = collate([None, None])
    assert not target.present.any()
    assert target.lengths is None
    assert target.values.shape == (2,)
    assert target.values.dtype == torch.float32
    assert padding(target.values)


def test_targets_follow_their_clips_into_micro_batches() -> None:
    target = collate([torch.tensor([1, 2]), None, torch.tensor([3])])
    batch = replace(make_batch(0, 3), targets={"phones": target})
    taken = batch.rows([2, 1]).targets["phones"]
    assert taken.values.tolist() == [[3], [-100]]
    assert taken.lengths is not None
    assert taken.lengths.tolist() == [1, 0]
    assert taken.present.tolist() == [True, False]


@given(st.lists(st.none() | st.integers(0, 4), min_size=1, max_size=5))
def test_rows_of_several_values_are_padded_and_counted(lengths: list[int | None]) -> None:
    rows = [None if n is None else torch.arange(3 * n).reshape(n, 3) for n in lengths]
    target = collate(rows)
    assert target.counts().tolist() == [n or 0 for n in lengths]
    for row, values in zip(rows, target.values, strict=True):
        if row is not None:
            assert torch.equal(values[: len(row)], row)
            assert (values[len(row) :] == -100).all()
