"""The vectors that analyses look at: those of the items' frames, the same in every model, however many are drawn."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_abx.analysis.points import Points, check_columns, classes_of, column_of, known_columns
from w2v_abx.errors import InputError
from w2v_abx.features.store import FeatureStore, StoreIdentity
from w2v_abx.features.writing import StoreWriter
from w2v_abx.items.items import Items

FRAMES = {"a": 30, "b": 12}


def items_of(*spans: tuple[str, str, str], **columns: list[str]) -> Items:
    files, onsets, offsets = zip(*spans, strict=True)
    return Items(pl.DataFrame({"#file": files, "onset": onsets, "offset": offsets, **columns}))


def store_of(folder: Path, frequency: int = 50) -> FeatureStore:
    """Each frame's vector says whose it is: clip, number, and the number in all."""
    frames = {key: number * frequency // 50 for key, number in FRAMES.items()}
    identity = StoreIdentity("x", "32-true", float(frequency), 2, "float32", (0, 1), "y")
    with StoreWriter(folder / str(frequency), identity) as writer:
        for clip, (key, number) in enumerate(frames.items()):
            layer = torch.stack([torch.full((number,), float(clip)), torch.arange(float(number))], 1)[None]
            writer.add([key], [layer, layer + 0.5], torch.tensor([number]))
        return writer.finish()


SPANS = [("a", "0", "0.1"), ("a", "0.1", "0.2"), ("b", "0.05", "0.17"), ("b", "0.171", "0.175"), ("a", "0.4", "0.58")]


def test_frames_of_all_items_are_those_of_abx(tmp_path: Path) -> None:
    store, items = store_of(tmp_path), items_of(*SPANS)
    points = Points.draw(items, store.frequency, "frames")
    starts, stops = items.spans(Fraction(50))
    expected = [
        [float(file == "b"), float(frame)]
        for (file, _, _), start, stop in zip(SPANS, starts, stops, strict=True)
        for frame in range(start, stop)
    ]
    np.testing.assert_array_equal(points.vectors(store, 0), expected)
    np.testing.assert_array_equal(points.vectors(store, 1), np.array(expected) + 0.5)
    assert points.left_out == 1  # 5 ms, between two centres
    assert len(points.items) == 4


def test_segments_are_mean_frames(tmp_path: Path) -> None:
    store, items = store_of(tmp_path), items_of(*SPANS)
    points = Points.draw(items, store.frequency, "segments")
    np.testing.assert_allclose(points.vectors(store, 0), [[0, 2], [0, 7], [1, 5.0], [0, 24]])


def test_another_rate_gives_the_frames_at_the_same_times(tmp_path: Path) -> None:
    slow, fast = store_of(tmp_path), store_of(tmp_path, 100)
    points = Points.draw(items_of(*SPANS), 50.0, "frames", 10, 3)
    frames = points.vectors(slow, 0)[:, 1]
    assert points.time is not None
    np.testing.assert_allclose(points.time, (frames + 0.5) / 50)
    centres = (points.vectors(fast, 0)[:, 1] + 0.5) / 100
    assert np.abs(centres - points.time).max() <= 0.005 + 1e-6


def test_an_item_that_one_rate_has_no_frame_of_is_left_out_of_all() -> None:
    items = items_of(("a", "0", "0.1"), ("a", "0.012", "0.018"))
    assert len(Points.draw(items, 100.0, "segments")) == 2
    points = Points.draw(items, 100.0, "segments", also=50.0)
    assert (len(points), points.left_out) == (1, 1)


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(1, 60), seed=st.integers(0, 5), level=st.sampled_from(["frames", "segments"]))
def test_a_sample_is_part_of_the_whole_in_its_order(limit: int, seed: int, level: str) -> None:
    items = items_of(*SPANS)
    whole, some, again = (Points.draw(items, 50.0, level, n, seed) for n in (None, limit, limit))  # type: ignore[arg-type]

    def named(points: Points) -> list[tuple[str, ...]]:
        times = [""] * len(points) if points.time is None else points.time.astype(str)
        return [(*points.items.frame.row(item), time) for item, time in zip(points.item, times, strict=True)]

    assert named(some) == named(again)
    assert some.total == len(whole)
    assert len(some) == min(limit, len(whole))
    kept = set(named(some))
    assert named(some) == [point for point in named(whole) if point in kept]


def test_batches_are_the_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("w2v_abx.analysis.points.BATCH", 4)
    store = store_of(tmp_path)
    for level in ("frames", "segments"):
        points = Points.draw(items_of(*SPANS), 50.0, level)  # type: ignore[arg-type]
        parts = list(points.batches(store, 1))
        np.testing.assert_array_equal(np.concatenate([values for _, values in parts]), points.vectors(store, 1))
        assert [number for part, _ in parts for number in range(part.start, part.stop)] == list(range(len(points)))


def test_what_stands_for_nothing_is_no_class() -> None:
    items = items_of(*SPANS, tone=["2", "-", "1", "2", "unknown"])
    found = classes_of(items, "tone")
    assert found.names == ["1", "2"]
    assert found.codes.tolist() == [1, -1, 0, 1, -1]
    points = Points.draw(items, 50.0, "segments")
    assert points.classes("tone").codes.tolist() == [1, -1, 0, -1]
    assert points.speakers.names == ["a", "b"]  # without speakers, files


def test_columns_are_those_that_tell_something_apart() -> None:
    items = items_of(*SPANS, tone=["1", "2"] * 2 + ["-"], speaker=["x"] * 5, sex=["-"] * 5)
    assert known_columns(items) == ["tone"]
    assert check_columns("analysis.probe.labels", None, items) == ["tone"]
    for column, message in (
        ("word", "no such column; they have"),
        ("speaker", "only the value 'x'"),
        ("sex", "no value"),
    ):
        with pytest.raises(InputError, match=rf"analysis\.probe\.labels={column}: items have {message}"):
            check_columns("analysis.probe.labels", ["tone", column], items)
    with pytest.raises(InputError, match="two values in none of"):
        check_columns("analysis.probe.labels", None, items_of(*SPANS))
    assert [column_of(label) for label in ("tones", "phones", "sex")] == ["tone", "#phone", "sex"]


def test_items_without_frames_and_clips_without_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the 1 items is as long as a frame"):
        Points.draw(items_of(("a", "0.001", "0.002")), 50.0, "frames")
    points = Points.draw(items_of(("c", "0", "0.1")), 50.0, "frames")
    with pytest.raises(InputError, match="no features of 'c'"):
        points.vectors(store_of(tmp_path), 0)
