"""Accuracies, recalls and their differences with intervals over speakers."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from w2v_abx.analysis.probing.accuracy import accuracies, count, differences
from w2v_abx.statistics.ratios import ratio_interval

OF = {"model": "before", "layer": 1, "label": "tone", "task": "label"}


def counted(speakers: list[str], truth: list[str], guesses: list[str], **of: object) -> pl.DataFrame:
    right = np.array(truth) == np.array(guesses)
    table = count(np.array(speakers), np.array(truth), right)
    return table.select(*(pl.lit(value).alias(key) for key, value in (OF | of).items()), pl.all())


def test_they_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    speakers, truth, guesses = (random.choice([*names], 200).tolist() for names in ("abcd", "xyyyz", "xyz"))
    row = accuracies(counted(speakers, truth, guesses)).row(0, named=True)
    assert row["accuracy"] == pytest.approx(accuracy_score(truth, guesses))
    assert row["recall"] == pytest.approx(balanced_accuracy_score(truth, guesses))
    right = [sum(t == g for s, t, g in zip(speakers, truth, guesses, strict=True) if s == who) for who in "abcd"]
    interval = ratio_interval(right, [speakers.count(who) for who in "abcd"])
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(interval)
    assert row["recall_low"] < row["recall"] < row["recall_high"]


def test_by_hand() -> None:
    counts = counted(["a", "a", "a", "b", "b"], ["x", "x", "y", "x", "y"], ["x", "y", "y", "y", "x"])
    assert counts.drop(*OF).rows() == [("a", "x", 2, 1), ("a", "y", 1, 1), ("b", "x", 1, 0), ("b", "y", 1, 0)]
    row = accuracies(counts).row(0, named=True)
    assert (row["accuracy"], row["recall"]) == pytest.approx((2 / 5, (1 / 3 + 1 / 2) / 2))


def test_one_speaker_and_speakers_alike_have_no_interval() -> None:
    one = accuracies(counted(["a", "a"], ["x", "y"], ["x", "x"]))
    alike = accuracies(counted(["a", "b"], ["x", "x"], ["x", "x"]))
    for table in (one, alike):
        assert table.select("accuracy_low", "accuracy_high", "recall_low", "recall_high").row(0) == (None,) * 4
    assert alike["accuracy"].item() == 1


def test_differences_are_paired_by_speaker() -> None:
    truth, speakers = ["x", "x", "x", "x", "x", "x"], [*"aabbcc"]
    first = counted(speakers, truth, [*"xyxxyy"])
    second = counted(speakers, truth, [*"xxxxxy"], model="after")
    only = counted(speakers, truth, truth, model="after", layer=2)
    (row,) = differences(first, pl.concat([second, only])).rows(named=True)
    assert (row["layer"], row["label"]) == (1, "tone")
    assert (row["first"], row["second"], row["difference"]) == pytest.approx((3 / 6, 5 / 6, 2 / 6))
    # Differences of speakers are 1, 0 and 1 of 2: without each in turn, 1/4, 2/4 and 1/4.
    error = np.sqrt(2 / 3 * np.square(np.array([1, 2, 1]) / 4 - 1 / 3).sum())
    assert row["high"] - row["difference"] == pytest.approx(4.302652729696142 * error)  # t of two degrees of freedom
    assert row["difference"] - row["low"] == pytest.approx(4.302652729696142 * error)
    same = differences(first, first).row(0, named=True)
    assert (same["difference"], same["low"], same["high"]) == (0, None, None)
