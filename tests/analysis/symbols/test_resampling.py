"""Replicates: what is drawn together, and what stays."""

import numpy as np
import pytest

from w2v_abx.analysis.symbols.resampling import Replicates
from w2v_abx.analysis.symbols.symbols import Recalls, measure


def recalls(runs: int = 2, speakers: int = 3, symbols: int = 5) -> Recalls:
    generator = np.random.default_rng(0)
    asked = generator.integers(1, 9, (runs, speakers, symbols)).astype(float)
    hits = np.floor(asked * generator.random(asked.shape))
    names = [[f"{kind}{n}" for n in range(size)] for kind, size in (("r", runs), ("u", symbols), ("s", speakers))]
    return Recalls(*names, hits, asked, asked.sum(1))


def test_the_first_is_the_data_and_the_others_are_those_that_were_drawn() -> None:
    made = recalls()
    found = Replicates.draw(made, ["x", "y"], 50, 1, crossed=True)
    recall = found.recall(made)
    np.testing.assert_allclose(recall[0], made.hits.sum(1) / made.asked.sum(1))
    drawn = np.repeat(np.arange(3), found.speakers[7].astype(int))
    np.testing.assert_allclose(recall[7], made.hits[:, drawn].sum(1) / made.asked[:, drawn].sum(1))
    tables = np.random.default_rng(1).integers(0, 9, (2, 2, 1, 5, 4)).astype(float)  # of two clusterings
    place = found.concentration("share", list(tables))
    assert place.shape == (51, 1, 5)
    np.testing.assert_allclose(place[0, 0], np.mean([measure("share", table.sum(0))[0] for table in tables], axis=0))
    again = np.repeat(np.arange(2), found.clustered[9].astype(int))
    both = [measure("share", table[again].sum(0))[0] for table in tables]
    np.testing.assert_allclose(place[9, 0], np.mean(both, axis=0))
    assert {found.runs.sum(), found.symbols.sum() / 5 * 2, found.speakers.sum() / 3 * 2} == {51 * 2}


def test_without_crossing_runs_and_symbols_stay() -> None:
    found = Replicates.draw(recalls(), ["x", "y"], 50, 1, crossed=False)
    assert found.runs.shape == (51, 2)
    assert (found.runs == 1).all()
    assert (found.symbols == 1).all()
    assert (found.speakers[1:] != 1).any()


@pytest.mark.parametrize(("speakers", "same"), [(["s0", "s1", "s2"], True), (["s0", "s1", "t"], False)])
def test_speakers_who_are_heard_and_clustered_are_drawn_together(speakers: list[str], same: bool) -> None:
    found = Replicates.draw(recalls(), speakers, 50, 1, crossed=True)
    assert np.array_equal(found.speakers, found.clustered) == same


def test_one_run_and_one_speaker_stay_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Replicates.draw(recalls(1, 1), ["x"], 20, 0, crossed=True)
    assert (found.runs == 1).all()
    assert (found.speakers == 1).all()
    several = Replicates.draw(recalls(), ["x", "y", "z"], 20, 0, crossed=True)
    tables = [np.random.default_rng(1).integers(0, 9, (3, 1, 5, 4)).astype(float)]
    whole = several.concentration("purity", tables)
    monkeypatch.setattr("w2v_abx.analysis.symbols.resampling.BLOCK", 61)
    np.testing.assert_array_equal(several.concentration("purity", tables), whole)
