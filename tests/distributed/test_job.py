"""What ranks do that do not read the command line."""

import sys
from typing import Any

import pytest
import torch.distributed as dist

from w2v_abx import commands
from w2v_abx.distributed import Ranks, follow, job
from w2v_abx.errors import InputError


def test_a_command_that_gives_no_job_lets_the_others_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`torchrun … w2v-abx train --cfg job`"""
    store = dist.HashStore()
    monkeypatch.setattr(sys, "argv", ["w2v-abx train", "experiment=demo", "--cfg", "job"])
    monkeypatch.setattr(commands, "current_process", lambda: Ranks(0, 2, store))
    commands.COMMANDS["train"]()
    assert "max_epochs" in capsys.readouterr().out
    monkeypatch.setattr(job, "current_process", lambda: Ranks(1, 2, store))
    follow()


def test_a_rank_that_fails_after_the_first_one_has_gone_says_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone(dist.HashStore):
        def set(self, *_: Any) -> None:
            raise dist.DistNetworkError("Broken pipe")

    def lose(text: dict[str, Any], *, first: bool) -> None:
        raise InputError("the clips are gone")

    monkeypatch.setattr(job, "current_process", lambda: Ranks(1, 2, Gone()))
    monkeypatch.setattr(Ranks, "take_job", lambda ranks: "{}")
    monkeypatch.setattr(job, "begin_job", lose)
    with pytest.raises(SystemExit, match="2"):
        follow()
    assert capsys.readouterr().err == "w2v-abx: rank 1: the clips are gone\n"
