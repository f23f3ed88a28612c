"""What ranks do that do not read the command line."""

import sys
from pathlib import Path
from typing import Any

import pytest

from w2v_abx import commands
from w2v_abx.distributed import Ranks, follow, job
from w2v_abx.distributed.meeting import MeetingFolder
from w2v_abx.errors import InputError


def test_a_command_that_gives_no_job_lets_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`torchrun … w2v-abx train --cfg job`"""
    tmp_path.chmod(0o700)
    meeting = MeetingFolder(tmp_path)
    monkeypatch.setattr(sys, "argv", ["w2v-abx train", "experiment=demo", "--cfg", "job"])
    monkeypatch.setattr(commands, "current_process", lambda: Ranks(0, 2, meeting))
    commands.COMMANDS["train"]()
    assert "max_epochs" in capsys.readouterr().out
    monkeypatch.setattr(job, "current_process", lambda: Ranks(1, 2, meeting))
    follow()


def test_a_rank_that_fails_after_the_first_one_has_gone_says_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ranks"
    folder.mkdir(0o700)
    meeting = MeetingFolder(folder)
    folder.rmdir()

    def lose(text: dict[str, Any], *, first: bool) -> None:
        raise InputError("the clips are gone")

    monkeypatch.setattr(job, "current_process", lambda: Ranks(1, 2, meeting))
    monkeypatch.setattr(Ranks, "take_job", lambda ranks: "{}")
    monkeypatch.setattr(job, "begin_job", lose)
    with pytest.raises(SystemExit, match="2"):
        follow()
    assert capsys.readouterr().err == "w2v-abx: rank 1: the clips are gone\n"
