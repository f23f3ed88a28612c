"""The averaged ABX error equals the published average, and its interval covers."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from w2v_abx.abx.averaging import average_error
from w2v_abx.abx.task import Task
from w2v_abx.errors import InputError
from w2v_abx.statistics.intervals import estimate
from w2v_abx.statistics.pairs import label_pairs


def crossed(speakers: int, phones: int, rng: np.random.Generator, spread: float, across: bool) -> pl.DataFrame:
    """Cells around an error of 0.3: pair and speaker effects of ``spread``, and noise."""
    pair = rng.normal(0, spread, (phones, phones))
    voice = rng.normal(0, spread, speakers)
    rows = [
        {"#phone": f"p{a}", "#phone_b": f"p{b}", "speaker": f"s{s}", "speaker_x": f"s{x}"}
        | {"score": 0.3 + pair[min(a, b), max(a, b)] + voice[s] + across * voice[x] + rng.normal(0, spread)}
        for a, b in itertools.permutations(range(phones), 2)
        for s in range(speakers)
        for x in ([x for x in range(speakers) if x != s] if across else [s])
    ]
    table = pl.DataFrame(rows)
    return table if across else table.drop("speaker_x")


@pytest.mark.parametrize("speaker", ["within", "across"])
@pytest.mark.parametrize("context", ["within", "any"])
def test_error_is_the_published_average(shared_data: Path, speaker: str, context: str) -> None:
    folder = shared_data / "abx_reference"
    cases = json.loads((folder / "expected.json").read_text())["cases"]
    expected = {(c["speaker"], c["context"], c["distance"]): c["error"] for c in cases}
    cells = pl.read_csv(folder / f"cells_{speaker}_{context}_angular.csv")
    # The reference's scores are rounded to seven decimals.
    assert estimate(cells).value == pytest.approx(expected[speaker, context, "angular"], abs=1e-7)
    assert label_pairs(cells)["error"].mean() == pytest.approx(expected[speaker, context, "angular"], abs=1e-7)


def test_of_speakers_told_apart_phones_are_averaged_after_contexts() -> None:
    """As the task averages them: contexts of each phone, then phones, then pairs of speakers."""
    rows = [("s", "a", "c1", 0.0), ("s", "a", "c2", 0.4), ("s", "b", "c1", 0.6), ("t", "a", "c1", 0.1)]
    both = [(one, phone, context, {"s": "t", "t": "s"}[one], score, 4) for one, phone, context, score in rows]
    cells = pl.DataFrame(
        both, schema=["speaker", "#phone", "next-phone", "speaker_b", "score", "size"], orient="row"
    ).select("speaker", "#phone", "next-phone", "speaker_b", "score", "size")
    task = Task("speaker", by=["#phone", "next-phone"])
    expected = ((0.0 + 0.4) / 2 / 2 + 0.6 / 2 + 0.1) / 2
    assert average_error(cells, "speaker", task.levels) == pytest.approx(expected)
    assert estimate(cells, on="speaker", speaker=None).value == pytest.approx(expected)


def test_contexts_and_speakers_of_x_then_speakers_then_pairs() -> None:
    rows = [
        ("a", "c1", "s1", "b", "s2", 0.0),
        ("a", "c2", "s1", "b", "s2", 0.2),
        ("a", "c1", "s1", "b", "s3", 0.4),
        ("a", "c1", "s2", "b", "s1", 1.0),
        ("b", "c1", "s1", "a", "s2", 0.3),
    ]
    cells = pl.DataFrame(
        rows, schema=["#phone", "next-phone", "speaker", "#phone_b", "speaker_x", "score"], orient="row"
    )
    pairs = {(a, b): error for a, b, error in label_pairs(cells).iter_rows()}
    assert pairs == pytest.approx({("a", "b"): (0.2 + 1.0) / 2, ("b", "a"): 0.3})
    assert estimate(cells).value == pytest.approx(0.45)


@pytest.mark.parametrize(("speakers", "across"), [(3, True), (6, True), (6, False)])
def test_interval_covers_with_few_speakers(speakers: int, across: bool) -> None:
    runs, hits = 80, 0
    for seed in range(runs):
        cells = crossed(speakers, 6, np.random.default_rng(seed), 0.02, across)
        found = estimate(cells)
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / runs <= 1.0


def test_interval_widens_with_differing_speakers() -> None:
    alike = crossed(6, 6, np.random.default_rng(1), 0.005, True)
    differing = alike.with_columns(score=pl.col("score") + pl.col("speaker").str.slice(1).cast(pl.Int64) * 0.03)
    narrow, wide = estimate(alike), estimate(differing)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert narrow.resampled == wide.resampled == ("phones", "speakers")


def test_two_speakers_are_held_fixed_and_no_bounds_from_one_pair() -> None:
    cells = crossed(2, 5, np.random.default_rng(0), 0.02, True)
    assert estimate(cells).resampled == ("phones",)
    one = estimate(cells.filter(pl.col("#phone").is_in(["p0", "p1"]), pl.col("#phone_b").is_in(["p0", "p1"])))
    assert one.resampled == ()
    assert np.isnan(one.low)
    assert np.isnan(one.high)


def test_a_speaker_that_every_cell_needs_is_not_left_out() -> None:
    cells = crossed(4, 5, np.random.default_rng(0), 0.02, True)
    hub = cells.filter((pl.col("speaker") == "s0") | (pl.col("speaker_x") == "s0"))
    found = estimate(hub)
    assert found.resampled == ("phones",)
    assert np.isfinite(found.low)


def test_the_order_of_rows_does_not_count() -> None:
    cells = crossed(4, 5, np.random.default_rng(2), 0.02, True)
    assert estimate(cells) == estimate(cells.sample(fraction=1.0, shuffle=True, seed=1))


@pytest.mark.parametrize("across", [True, False])
def test_variance_is_that_of_the_jackknives_over_phones_and_speakers(across: bool) -> None:
    cells = crossed(5, 6, np.random.default_rng(3), 0.03, across)

    def jackknife(columns: list[str], names: list[str]) -> float:
        without = [cells.filter(*(pl.col(column) != name for column in columns))["score"].mean() for name in names]
        return (len(names) - 1) / len(names) * float(((np.array(without) - np.mean(without)) ** 2).sum())

    roles = ["speaker", "speaker_x"] if across else ["speaker"]
    variance = jackknife(["#phone", "#phone_b"], [f"p{i}" for i in range(6)]) + jackknife(
        roles, [f"s{i}" for i in range(5)]
    )
    assert estimate(cells).standard_error == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize("levels", [None, ["next-phone", "speaker"], [["speaker", "next-phone"]], ["speaker"]])
@pytest.mark.parametrize("across", [True, False])
def test_any_average_is_that_of_abx(levels: Any, across: bool) -> None:
    cells = crossed(4, 4, np.random.default_rng(4), 0.02, across)
    cells = pl.concat([cells.with_columns(pl.lit(c).alias("next-phone")) for c in "abc"])
    cells = cells.with_columns(size=pl.int_range(pl.len()) % 7 + 1).sample(fraction=0.6, seed=2)
    columns = ["#phone", "next-phone", "speaker", "#phone_b", *(["speaker_x"] if across else []), "score", "size"]
    own = ["next-phone", "speaker"] if levels is None else levels
    assert estimate(cells, levels=levels).value == pytest.approx(average_error(cells.select(columns), "#phone", own))
    expected = average_error(cells.select(columns), "#phone", [], weighted=True)
    assert estimate(cells, weighted=True).value == pytest.approx(expected)


def test_errors_stay_between_nought_and_one() -> None:
    cells = crossed(3, 4, np.random.default_rng(3), 0.02, True).with_columns(score=(pl.col("score") > 0.33).cast(float))
    found = estimate(cells)
    assert found.low >= 0
    assert found.high <= 1


def test_without_speakers() -> None:
    cells = crossed(1, 6, np.random.default_rng(4), 0.05, False).drop("speaker")
    found = estimate(cells, speaker=None)
    assert found.value == pytest.approx(cells["score"].mean())
    assert found.resampled == ("phones",)


def test_another_label_than_phones() -> None:
    cells = crossed(3, 5, np.random.default_rng(5), 0.02, True)
    digits = cells.with_columns(
        digit=pl.col("#phone").str.slice(1).cast(int), digit_b=pl.col("#phone_b").str.slice(1).cast(int)
    )
    assert estimate(digits.drop("#phone", "#phone_b"), on="digit").value == pytest.approx(estimate(cells).value)


def test_bad_tables_are_refused() -> None:
    cells = crossed(3, 4, np.random.default_rng(6), 0.02, True)
    with pytest.raises(InputError, match="no column 'speaker'"):
        estimate(cells.drop("speaker"))
    with pytest.raises(InputError, match="same cell twice"):
        estimate(pl.concat([cells, cells.head(1)]))
    with pytest.raises(InputError, match="not a number"):
        estimate(cells.with_columns(score=pl.lit(float("nan"))))
    with pytest.raises(InputError, match="empty"):
        estimate(cells.head(0))
    with pytest.raises(InputError, match="12 of the cells given have no value for 'speaker_x'"):
        estimate(cells.with_columns(speaker_x=pl.when(pl.int_range(pl.len()) >= 12).then(pl.col("speaker_x"))))
    stacked = cells.with_columns(layer=pl.int_range(pl.len()) % 2)
    with pytest.raises(InputError, match="several values of 'layer'"):
        estimate(stacked)
