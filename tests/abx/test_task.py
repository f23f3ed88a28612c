"""Tasks and the cells that they make."""

import numpy as np
import polars as pl
import pytest

from w2v_abx.abx import Items, Task
from w2v_abx.abx.cells import build_cells
from w2v_abx.errors import InputError


def items_of(*rows: tuple[str, str, str]) -> Items:
    """Items with a phone, a context and a speaker each."""
    frame = pl.DataFrame(rows, schema=["p", "c", "s"], orient="row")
    return Items(frame.with_columns(onset=pl.lit("0"), offset=pl.lit("1"), **{"#file": pl.lit("f")}))


def cells_of(items: Items, task: Task, **caps: int) -> list[tuple]:
    cells = build_cells(items, np.arange(len(items)), task, **caps)
    return [(*labels, size) for labels, size in zip(cells.frame.rows(), cells.size.tolist(), strict=True)]


def test_presets_are_those_of_zerospeech() -> None:
    assert Task.preset("within", "within") == Task("#phone", by=["prev-phone", "next-phone", "speaker"])
    assert Task.preset("across", "within") == Task("#phone", by=["prev-phone", "next-phone"], across=["speaker"])
    assert Task.preset("within", "any") == Task("#phone", by=["speaker"])
    assert Task.preset("across", "any") == Task("#phone", across=["speaker"])
    assert Task.preset("across", "within").levels == [("prev-phone", "next-phone"), ("speaker",)]
    assert Task.preset("within", "any").levels == [("speaker",)]
    assert Task("w", by=["sex"], across=["room", "speaker"]).levels == [("sex",), ("speaker",), ("room",)]
    # Where speakers are told apart, phones stand in their place.
    assert Task("speaker", by=["#phone", "c", "d"]).levels == [("c", "d"), ("#phone",)]
    assert Task("tone", by=["#phone", "c"]).levels == [("#phone", "c")]
    for bad in ({"speaker": "both"}, {"context": "triphone"}):
        with pytest.raises(InputError, match=next(iter(bad.values()))):
            Task.preset(**bad)


def test_a_task_is_checked() -> None:
    with pytest.raises(InputError, match="'p' twice"):
        Task("p", by=["s"], across=["p"])
    with pytest.raises(InputError, match="'offset' cannot"):
        Task("offset")
    with pytest.raises(InputError, match="'p_x' cannot"):
        Task("p_x")
    with pytest.raises(InputError, match=r"no column 'q', which the task needs \(they have: p, c, s"):
        cells_of(items_of(("a", "1", "x"), ("b", "1", "x")), Task("p", by=["q"]))


def test_cells_within() -> None:
    items = items_of(
        ("a", "1", "x"), ("a", "1", "x"), ("a", "1", "x"), ("b", "1", "x"), ("b", "1", "y"), ("a", "2", "x")
    )
    # b has a single item with x, so it is never A; nothing shares the speaker y or the context 2.
    assert cells_of(items, Task("p", by=["c", "s"])) == [("a", "1", "x", "b", 3 * 2 * 1)]
    assert cells_of(items, Task("p")) == [("a", "b", 4 * 3 * 2), ("b", "a", 2 * 1 * 4)]


def test_cells_across_need_all_across_columns_to_differ() -> None:
    items = items_of(
        ("a", "1", "x"), ("b", "1", "x"), ("a", "1", "y"), ("a", "2", "y"), ("a", "2", "y"), ("a", "2", "x")
    )
    assert cells_of(items, Task("p", across=["s"])) == [("a", "x", "b", "y", 2 * 1 * 3)]
    assert cells_of(items, Task("p", by=["c"], across=["s"])) == [("a", "1", "x", "b", "y", 1)]
    assert cells_of(items, Task("p", across=["s", "c"])) == [("a", "x", "1", "b", "y", "2", 2)]


def test_an_item_left_out_does_not_redraw_the_others() -> None:
    items = items_of(*[("a", "1", "x")] * 30, *[("b", "1", "x")] * 30)
    task = Task("p")
    whole = build_cells(items, np.arange(60), task, max_size_group=5)
    lost = next(row for row in range(60) if row not in whole.items)
    fewer = build_cells(items, np.delete(np.arange(60), lost), task, max_size_group=5)
    assert fewer.items.tolist() == whole.items.tolist()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("c"), "a single value in that column"),
        (Task("p", by=["s"]), "share s, one of them with two items"),
        (Task("p", across=["s"]), "also found with another s"),
        (Task("p", by=["s"], across=["c"]), "also found with another c"),
    ],
)
def test_an_empty_task_says_what_is_missing(task: Task, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cells_of(items_of(("a", "1", "x"), ("b", "1", "y")), task)
