"""Items that do not fit their features, and features that do not fit."""

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
import torch

from w2v_abx.abx import Items, Task, score
from w2v_abx.abx.frames import cut_frames
from w2v_abx.errors import InputError

TASK = Task("p")


def items_of(*spans: tuple[float, float], file: str = "f") -> Items:
    """Items at 10 frames a second, of the phones a and b alternately."""
    return Items(
        pl.DataFrame(
            {
                "#file": [file] * len(spans),
                "onset": [a for a, _ in spans],
                "offset": [b for _, b in spans],
                "p": ["ab"[k % 2] for k in range(len(spans))],
            }
        )
    )


def features_of(frames: int, width: int = 3, file: str = "f") -> dict[str, np.ndarray]:
    return {file: np.random.default_rng(0).normal(size=(frames, width)).astype(np.float32)}


SPANS = [(0.0, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.2)]


def test_one_lost_frame_is_left_out_and_counted() -> None:
    whole, clipped = (score(features_of(frames), items_of(*SPANS), TASK, frequency=10) for frames in (12, 11))
    assert (whole.clipped, clipped.clipped) == (0, 1)
    shorter = score(features_of(11), items_of(*SPANS[:3], (0.9, 1.1)), TASK, frequency=10)
    assert clipped.cells.equals(shorter.cells)
    assert clipped.skipped.is_empty()


def test_libri_lights_slicing_is_the_exact_one_of_items_a_frame_shorter() -> None:
    spans = [(0.0, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.3), (0.2, 0.3)]
    features = features_of(14)
    with pytest.warns(UserWarning, match=r"1 of 5 items are left out at 10 Hz \(1 of a single frame, which"):
        found = score(features, items_of(*spans), TASK, frequency=10, slicing="librilight")
    shorter = [(onset, round(offset - 0.1, 1)) for onset, offset in spans[:4]]
    assert found.cells.equals(score(features, items_of(*shorter), TASK, frequency=10).cells)
    assert found.skipped["where"].to_list() == ["items, row 5"]
    exact = score(features, items_of(*spans), TASK, frequency=10)
    assert not found.cells["delta_sum"].equals(exact.cells["delta_sum"])
    assert exact.skipped.is_empty()
    with pytest.raises(InputError, match="slicing='fastabx' must be one of exact, librilight"):
        score(features, items_of(*spans), TASK, frequency=10, slicing="fastabx")


def test_further_outside_is_an_error_that_says_by_how_much() -> None:
    with pytest.raises(
        InputError, match=r"row 4: the item ends 2 frames after the features of 'f'.*there are 10.*not 10 Hz"
    ):
        score(features_of(10), items_of(*SPANS), TASK, frequency=10)


def test_items_without_a_frame_are_named_and_the_rest_is_scored() -> None:
    spans = [*SPANS, (0.51, 0.54), (1.2, 1.3)]
    with pytest.warns(
        UserWarning, match=r"2 of 6 items are left out at 10 Hz \(1 shorter than a frame, .*row 5"
    ) as warned:
        scores = score(features_of(12), items_of(*spans), TASK, frequency=10)
    assert len(warned) == 1
    assert scores.skipped["where"].to_list() == ["items, row 5", "items, row 6"]
    assert scores.skipped["reason"].to_list() == ["shorter than a frame", "only in the last frame, which was lost"]
    assert scores.cells.equals(score(features_of(12), items_of(*SPANS), TASK, frequency=10).cells)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(InputError, match="No item has a frame"), pytest.warns(UserWarning, match="4 of 4"):
        score(features_of(12), items_of(*[(0.51, 0.54)] * 4), TASK, frequency=10)


def test_a_file_without_features_is_named() -> None:
    with pytest.raises(InputError, match=r"row 1: there are no features for the file 'g'"):
        score(features_of(12), items_of(*SPANS, file="g"), TASK, frequency=10)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full((12, 3), np.nan), "'f' hold a NaN or an infinite number, first in frame 0"),
        (np.where(np.arange(36).reshape(12, 3) == 10, np.inf, 1.0), "first in frame 3"),
        (np.full((12, 3), 1e300), "infinite"),
        (torch.zeros(12), "two dimensions"),
        (np.zeros((1, 12, 3)), r"shape \(1, 12, 3\)"),
        (np.zeros((12, 0)), r"shape \(12, 0\)"),
        (np.array([["a"] * 3] * 12), "must be numbers"),
        (np.full((12, 1), 2**24 + 1), "2\\^24"),
    ],
)
def test_features_that_cannot_be_scored_name_their_file(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        score({"f": value}, items_of(*SPANS), TASK, frequency=10)
    assert "'f'" in str(error.value)


def test_one_width_for_all_files() -> None:
    frame = pl.concat([items_of(*SPANS).frame, items_of(*SPANS, file="g").frame])
    with pytest.raises(InputError, match="'g' have 4 dimensions"):
        score({**features_of(12), **features_of(12, 4, "g")}, Items(frame), TASK, frequency=10)


def test_integer_units_are_scored() -> None:
    units = torch.tensor([1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2]).reshape(-1, 1)
    scores = score({"f": units}, items_of(*SPANS), TASK, frequency=10, distance="identical")
    assert scores.error() == 0
    assert scores.delta.mean == 1


@pytest.mark.parametrize(
    "value",
    [None, [1.0, 2.0], [[1.0], [1.0, 2.0]], torch.eye(3).to_sparse(), np.array(["a"]), torch.ones(2, 3, 1), "f.npy"],
)
def test_what_is_no_features_is_said(value: object) -> None:
    items = Items(pl.DataFrame({"#file": ["f", "f"], "onset": [0, 1], "offset": [1, 2], "p": ["a", "b"]}))
    with pytest.raises(InputError, match="'f' must be numbers in two dimensions"):
        cut_frames({"f": value}, items, Fraction(1))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float16, np.float64, bool, ">f4"])
def test_any_kind_of_number_is_scored_in_float32(kind: object) -> None:
    items = Items(pl.DataFrame({"#file": ["f", "f"], "onset": [0, 1], "offset": [1, 2], "p": ["a", "b"]}))
    values = np.array([[1, 0, 1], [0, 1, 1]])
    frames = cut_frames({"f": values.astype(kind)}, items, Fraction(1))  # type: ignore[call-overload]
    assert torch.cat([part for part, _ in frames.parts()]).equal(torch.tensor(values, dtype=torch.float32))


def test_integers_that_float32_cannot_tell_apart() -> None:
    items = Items(pl.DataFrame({"#file": ["f", "f"], "onset": [0, 1], "offset": [1, 2], "p": ["a", "b"]}))
    for value in (np.full((2, 2), 2**64 - 1, dtype=np.uint64), torch.full((2, 2), 2**30)):
        with pytest.raises(InputError, match="integers above 2.24"):
            cut_frames({"f": value}, items, Fraction(1))


# Frames cut for a device; any device will do.


def test_frames_for_a_device_are_those_of_the_host() -> None:
    features = {"f": torch.from_numpy(features_of(11)["f"])}
    host, there = (
        cut_frames(features, items_of(*SPANS), Fraction(10), device) for device in (None, torch.device("cpu"))
    )
    assert all(isinstance(file, torch.Tensor) for file in there.files)
    assert (there.rows.tolist(), there.lengths.tolist()) == (host.rows.tolist(), host.lengths.tolist())
    assert there.clipped == host.clipped == 1
    assert torch.equal(*(torch.cat([part for part, _ in frames.parts()]) for frames in (there, host)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((3, 2), torch.nan), "'g' hold a NaN or an infinite number, first in frame 0"),
        (torch.full((3, 2), 1e300, dtype=torch.float64), "'g' hold a NaN or an infinite number"),
        (torch.full((3, 2), 2**24 + 1), "2\\^24"),
        (torch.full((3, 2), -(2**24) - 1), "2\\^24"),
        (torch.zeros(3), "two dimensions"),
        (torch.zeros((3, 2), dtype=torch.complex64), "must be numbers"),
        (torch.zeros((3, 4)), "'g' have 4 dimensions"),
    ],
)
def test_features_on_a_device_that_cannot_be_scored(value: torch.Tensor, message: str) -> None:
    items = Items(pl.DataFrame({"#file": list("fgf"), "onset": [0, 0, 1], "offset": [1, 3, 3], "p": list("aba")}))
    with pytest.raises(InputError, match=message):
        cut_frames({"f": torch.zeros((3, 2)), "g": value}, items, Fraction(1), torch.device("cpu"))
