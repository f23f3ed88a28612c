"""Folds of units, and labels permuted among the units that they vary between."""

import numpy as np
import pytest
from stores import frame_items

from w2v_abx.analysis.correlation.labelling import partitions
from w2v_abx.analysis.points import Points
from w2v_abx.errors import InputError


def drawn(speakers: int = 6, files: int = 4, **columns: list[str]) -> Points:
    rows = [(f"s{s}", f"s{s}_{f}") for s in range(speakers) for f in range(files) for _ in range(6)]
    made = {
        "file": [file for _, file in rows],
        "speaker": [speaker for speaker, _ in rows],
        "sex": ["fm"[int(speaker[1:]) % 2] for speaker, _ in rows],
        "emotion": ["joy" if int(file[-1]) % 2 else "fear" for _, file in rows],
        "#phone": [*"abcabd"] * (speakers * files),
    }
    return Points.draw(frame_items(**made | columns).items, 50, "segments")


def test_labels_are_permuted_where_they_vary_and_held_out_where_they_can_be() -> None:
    points = drawn()
    found = partitions(points, ["#phone", "sex", "emotion", "speaker"], 3, 20, 0)
    units = {one.column: (part.unit, one.permuted, one.constant) for part in found for one in part.labellings}
    assert units == {
        "#phone": ("speaker", "item", False),
        "sex": ("speaker", "speaker", True),
        "emotion": ("speaker", "file", False),
        "speaker": ("file", "file", True),
    }
    for part in found:
        for one in part.labellings:
            groups = (
                points.items.frame[{"file": "#file"}.get(one.permuted, one.permuted)]
                if one.permuted != "item"
                else None
            )
            for codes in one.codes:
                np.testing.assert_array_equal(np.sort(codes) >= 0, np.sort(one.codes[0]) >= 0)
                if groups is not None:
                    assert all(len(set(codes[groups == group])) == 1 for group in groups.unique())
            assert len({codes.tobytes() for codes in one.codes}) > 10


def test_no_unit_is_in_two_folds_and_cells_have_the_same_labels() -> None:
    points = drawn(tone=["1", "-", "2"] * 48)
    (part,) = partitions(points, ["tone", "sex"], 4, 0, 0)
    assert part.number == 4
    folds = {
        speaker: set(part.folds[(points.items.frame["speaker"] == speaker).to_numpy()])
        for speaker in ["s0", "s1", "s5"]
    }
    assert all(len(found) == 1 for found in folds.values())
    np.testing.assert_array_equal(part.fold[part.cells], part.folds)
    np.testing.assert_array_equal(part.has[part.cells, 0], points.items.frame["tone"].to_numpy() != "-")


def test_there_are_no_more_folds_than_units() -> None:
    assert partitions(drawn(3), ["#phone"], 10, 0, 0)[0].number == 3


def test_one_speaker_is_held_out_by_files_and_the_folds_are_seeded() -> None:
    part, again, other = (partitions(drawn(1, 9), ["#phone"], 3, 1, seed)[0] for seed in (0, 0, 1))
    assert part.unit == "file"
    np.testing.assert_array_equal(part.folds, again.folds)
    assert (part.folds != other.folds).any()


def test_a_label_that_cannot_be_held_out_is_refused() -> None:
    points = drawn(2, 1, odd=[*map(str, range(12))])
    with pytest.raises(InputError, match="odd: no two of its values"):
        partitions(points, ["odd"], 2, 0, 0)
