"""Commands as a user types them, in this process and in an empty folder."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from w2v_abx.__main__ import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command; its standard output. A command that fails raises SystemExit."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["w2v-abx", *arguments])
        main()
        return capfd.readouterr().out

    return run
