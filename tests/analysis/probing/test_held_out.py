"""What is held out, and control tasks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import frame_items

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.points import Points
from w2v_abx.analysis.probing.held_out import control_codes, hold_out
from w2v_abx.errors import InputError


def points_of(speech: Speech, level: str = "segments") -> Points:
    return Points.draw(speech.items, 50.0, level)  # type: ignore[arg-type]


def corpus(speakers: int = 6, files: int = 2, phones: str = "abc") -> Speech:
    rows = [(s, f, p) for s in range(speakers) for f in range(files) for p in phones]
    return frame_items(
        file=[f"s{s}_{f}" for s, f, _ in rows],
        speaker=[f"s{s}" for s, _, _ in rows],
        sex=["fm"[s % 2] for s, _, _ in rows],
        **{"#phone": [p for _, _, p in rows]},
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.integers(2, 6), st.integers(0, 9), st.sampled_from(["segments", "frames"]))
def test_no_unit_is_on_both_sides(speakers: int, folds: int, seed: int, level: str) -> None:
    points = points_of(corpus(speakers, files=3), level)
    for column, unit in (("#phone", "speaker"), ("speaker", "file")):
        held = hold_out(points, column, folds, seed)
        assert held.unit == unit
        columns = points.items.frame["speaker" if unit == "speaker" else "#file"].to_numpy()[points.item[held.rows]]
        for one in np.unique(columns):
            assert len(np.unique(held.folds[columns == one])) == 1
        assert np.array_equal(np.unique(held.folds), np.arange(min(folds, held.units)))
        assert [held.classes[code] for code in held.codes] == points.items.frame[column].to_numpy()[
            points.item[held.rows]
        ].tolist()


def test_folds_have_the_classes_alike() -> None:
    held = hold_out(points_of(corpus(8)), "sex", 4, 0)
    assert held.units == 8
    for fold in range(4):
        assert np.bincount(held.codes[held.folds == fold]).tolist() == [6, 6]


def test_what_one_speaker_alone_has_is_left_out() -> None:
    speech = frame_items(
        file=[*"aabbc"], speaker=[*"aabbc"], **{"#phone": ["x", "y", "x", "y", "z"]}, tone=["1", "-", "-", "1", "2"]
    )
    held = hold_out(points_of(speech), "#phone", 3, 0)
    assert (held.classes, held.rows.tolist(), held.left_out, held.units) == (["x", "y"], [0, 1, 2, 3], 1, 2)
    assert held.names.tolist() == ["a", "a", "b", "b"]
    with pytest.raises(InputError, match="tone: no two of its values are had by two items each"):
        hold_out(points_of(speech), "tone", 3, 0)


def test_files_are_held_out_where_nobody_says_who_speaks() -> None:
    speech = frame_items(file=[*"aabbcc"], **{"#phone": [*"xyxyxy"]})
    held = hold_out(points_of(speech), "#phone", 3, 0)
    assert (held.unit, held.units, held.names.tolist()) == ("file", 3, [*"aabbcc"])


def test_items_are_held_out_where_there_is_one_file_but_not_of_frames() -> None:
    speech = frame_items(file=["a"] * 6, **{"#phone": [*"xyxyxy"]})
    held = hold_out(points_of(speech), "#phone", 3, 0)
    assert (held.unit, held.units, len(set(held.names))) == ("item", 6, 6)
    with pytest.raises(InputError, match="had by two files each"):
        hold_out(points_of(speech, "frames"), "#phone", 3, 0)


def test_each_type_has_one_class_drawn_as_often_as_points_have_it() -> None:
    rows = [(s, p) for p in range(400) for s in "ab"]
    speech = frame_items(
        file=[s for s, _ in rows],
        speaker=[s for s, _ in rows],
        word=[f"w{p}" for _, p in rows],
        tone=["1" if p % 4 else "2" for _, p in rows],
    )
    points = points_of(speech)
    held = hold_out(points, "tone", 2, 0)
    codes = control_codes(points, held, ["word"], 1)
    words = points.items.frame["word"].to_numpy()[held.rows]
    assert all(len(np.unique(codes[words == word])) == 1 for word in np.unique(words))
    assert 0.68 < (codes == 0).mean() < 0.82
    assert not np.array_equal(codes, held.codes)
    assert np.array_equal(codes, control_codes(points, held, ["word"], 1))
    assert not np.array_equal(codes, control_codes(points, held, ["word"], 2))
