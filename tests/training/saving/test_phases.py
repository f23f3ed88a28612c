"""What is done of a run is done once."""

from pathlib import Path

import pytest

from w2v_abx.training.saving import Phases


def test_a_phase_that_is_done_stays_done(tmp_path: Path) -> None:
    assert Phases(tmp_path).done == {}
    (tmp_path / "abx").mkdir()
    (tmp_path / "abx" / "cells").write_text("1,2")
    phases = Phases(tmp_path)
    phases.add("before", (tmp_path / "abx").iterdir(), steps=3)
    phases.add("report", [tmp_path / "not written"])
    assert phases.done == Phases(tmp_path).done == {"before": {"steps": 3}, "report": {}}


@pytest.mark.parametrize("content", ["1,", "1,3", None])
def test_a_phase_whose_files_are_not_what_they_were_is_done_again(content: str | None, tmp_path: Path) -> None:
    made = tmp_path / "cells"
    made.write_text("1,2")
    Phases(tmp_path).add("before", [made])
    made.unlink() if content is None else made.write_text(content)
    assert Phases(tmp_path).done == {}


@pytest.mark.parametrize("told", ["", "[]", "{", '{"before": 3}', '{"before": {"facts": 1, "files": {}}}'])
def test_a_record_that_makes_no_sense(told: str, tmp_path: Path) -> None:
    (tmp_path / "phases.json").write_text(told)
    assert Phases(tmp_path).done == {}
