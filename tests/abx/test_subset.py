"""A subset of files that keeps cells."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_abx.abx import Items, Task
from w2v_abx.abx.cells import build_cells
from w2v_abx.abx.subset import subset
from w2v_abx.errors import InputError
from w2v_abx.items.frames import exact_frequency

TASKS = [Task.preset("within"), Task.preset("across")]


def items(contexts: int = 30) -> Items:
    """Each file has one item; of two phones and two speakers, twice each in every context."""
    rows = [
        [f"{speaker}-{context}-{phone}-{take}", "0", "0.1", phone, f"p{context}", "n", speaker]
        for context in range(contexts)
        for speaker in ("ann", "bob")
        for phone in "aiu"
        for take in range(2)
    ]
    columns = ["#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker"]
    return Items(pl.DataFrame(rows, schema=columns, orient="row"))


@settings(max_examples=20)
@given(st.integers(12, 100), st.integers(0, 1000))
def test_every_task_keeps_cells(most: int, seed: int) -> None:
    # Drawn at random, 12 of 360 files hardly ever share a context.
    chosen = subset(items(), TASKS, 50, most, seed)
    assert chosen.frame["#file"].n_unique() <= most
    for task in TASKS:
        starts, stops = chosen.spans(exact_frequency(50))
        cells = build_cells(chosen, (stops > starts).nonzero()[0], task)
        assert len(cells.size) > 0


def test_phone_pairs_come_in_turn() -> None:
    chosen = subset(items(), TASKS, 50, 60, 0)
    cells = build_cells(chosen, (chosen.spans(exact_frequency(50))[1] > 0).nonzero()[0], TASKS[0])
    assert cells.frame.select("#phone", "#phone_b").unique().height == 6


def test_a_function_of_the_seed() -> None:
    assert subset(items(), TASKS, 50, 20, 3).frame.equals(subset(items(), TASKS, 50, 20, 3).frame)
    assert not subset(items(), TASKS, 50, 20, 3).frame.equals(subset(items(), TASKS, 50, 20, 4).frame)
    whole = items(2)
    assert subset(whole, TASKS, 50, 1000, 0) is whole


def test_too_few_files_for_a_cell() -> None:
    with pytest.raises(InputError, match="max_files=3 is too few"):
        subset(items(), TASKS, 50, 3, 0)
    with pytest.raises(InputError, match="max_files=0 must be a whole number from 1"):
        subset(items(), TASKS, 50, 0, 0)
