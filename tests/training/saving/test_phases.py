"""What is done of a run is done once."""

from pathlib import Path

import pytest

from w2v_abx.training.saving.phases import add_phase, phases_done


def test_a_phase_that_is_done_stays_done(tmp_path: Path) -> None:
    assert phases_done(tmp_path) == {}
    (tmp_path / "abx").mkdir()
    (tmp_path / "abx" / "cells").write_text("1,2")
    add_phase(tmp_path, "before", (tmp_path / "abx").iterdir(), steps=3)
    add_phase(tmp_path, "report", [tmp_path / "not written"])
    assert phases_done(tmp_path) == {"before": {"steps": 3}, "report": {}}


@pytest.mark.parametrize("content", ["1,", "1,3", None])
def test_a_phase_whose_files_are_not_what_they_were_is_done_again(content: str | None, tmp_path: Path) -> None:
    made = tmp_path / "cells"
    made.write_text("1,2")
    add_phase(tmp_path, "before", [made])
    made.unlink() if content is None else made.write_text(content)
    add_phase(tmp_path, "after", [])
    assert phases_done(tmp_path) == {"after": {}}


@pytest.mark.parametrize("record", ["", "[]", "{", '{"before": 3}', '{"before": {"facts": 1, "files": {}}}'])
def test_a_record_that_makes_no_sense(record: str, tmp_path: Path) -> None:
    (tmp_path / "phases.json").write_text(record)
    assert phases_done(tmp_path) == {}
    add_phase(tmp_path, "after", [])
    assert phases_done(tmp_path) == {"after": {}}
