"""Pairs in the order of how surely they changed."""

import numpy as np
import polars as pl

from w2v_abx.statistics.pairs import changed_pairs


def tables(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Frequent pairs with many triplets that changed by 2 points or not at all, and rare ones that moved by chance."""
    rng, rows = np.random.default_rng(seed), []
    for a in range(8):
        for b in range(a + 1, 8):
            rare = b == 7
            for speaker in range(2 if rare else 10):
                size = int(rng.integers(1, 4)) if rare else 400
                change = (0.02 if (a, b) in ((0, 1), (2, 3)) else 0.0) + rng.normal(0, 0.3 / np.sqrt(size))
                row = {"#phone": f"p{a}", "#phone_b": f"p{b}", "speaker": f"s{speaker}", "size": size}
                rows.append(row | {"score": 0.3, "after": 0.3 + change})
    table = pl.DataFrame(rows)
    return table.drop("after"), table.drop("score").rename({"after": "score"})


def test_rare_pairs_do_not_come_first() -> None:
    for seed in range(5):
        found = changed_pairs(*tables(seed))
        largest = found.sort(pl.col("change").abs(), descending=True).head(3)
        assert "p7" in largest["#phone_b"].to_list()  # by size alone the rare ones would
        assert {("p0", "p1"), ("p2", "p3")} == set(found.head(2).select("#phone", "#phone_b").rows())


def test_numbers_of_a_pair() -> None:
    before, after = tables(1)
    found = changed_pairs(before, after).filter(pl.col("#phone") == "p0", pl.col("#phone_b") == "p1")
    own = (pl.col("#phone") == "p0") & (pl.col("#phone_b") == "p1")
    row = found.row(0, named=True)
    assert (row["cells"], row["triplets"]) == (10, 4000)
    assert np.isclose(row["before"], 0.3)
    assert np.isclose(row["change"], after.filter(own)["score"].mean() - 0.3)
    assert 0.5 < row["standard_error"] / (0.3 / np.sqrt(4000)) < 2


def test_a_pair_of_one_cell_is_as_unsure_as_others_of_its_triplets() -> None:
    rows = [("a", "b", "x", 0.5, 100), ("a", "c", "x", 0.5, 100), ("a", "c", "y", 0.5, 100), ("b", "c", "x", 0.5, 1)]
    before = pl.DataFrame(rows, ["#phone", "#phone_b", "next-phone", "score", "size"], orient="row")
    after = before.with_columns(score=pl.Series([0.55, 0.53, 0.49, 0.58]))
    found = changed_pairs(before, after, speaker=None)
    assert found.select("#phone", "#phone_b").rows() == [("a", "b"), ("a", "c"), ("b", "c")]
