"""What long work tells, on a terminal and in a file."""

import io
import re

import pytest
from rich.console import Console

from w2v_abx.system import progress
from w2v_abx.system.progress import ClipProgress, tracked


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_file_gets_a_line_for_each_tenth_and_each_minute(clock: list[float]) -> None:
    log = io.StringIO()
    with ClipProgress(Console(file=log, width=40), 1000) as bar:
        bar.add_stored(150, 50, hours=0.5)
        for number in range(850):
            clock[0] += 1.0
            bar.advance(9.0, failed=number == 7)
    lines = log.getvalue().splitlines()
    assert len(lines) == 9 + 8  # a tenth takes 100 s, but for the first, of which half was there
    assert lines[0] == "prepare 200/1000 clips, 0.62 h, 51 skipped, 1 clips/s (9 times real time), 13:20 left"
    assert lines[-1] == "prepare 1000/1000 clips, 2.62 h, 51 skipped, 1 clips/s (9 times real time), 0:00 left"
    times = [re.search(r"(\d+):(\d\d) left", line) for line in lines]
    left = [60 * int(match[1]) + int(match[2]) for match in times if match]
    assert len(left) == len(lines)
    assert left == sorted(left, reverse=True)


def test_a_terminal_gets_a_bar(clock: list[float]) -> None:
    screen = io.StringIO()
    with ClipProgress(Console(file=screen, width=120, force_terminal=True), 2, "align", "not aligned") as bar:
        clock[0] = 4000.0
        bar.advance(3600.0, failed=False)
    assert "1/2" in screen.getvalue()
    assert "1.00 h, 0 not aligned, 0.00025 clips/s (0.9 times real time), 1:06:40 left" in screen.getvalue()


def test_only_what_takes_seconds_is_shown(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for pace, shown in ((0.01, True), (1.0, False), (1.0, True)):
        for number in tracked("lengths", range(100), shown=shown):
            assert number in range(100)
            clock[0] += pace
        lines = capsys.readouterr().err.splitlines()
        assert bool(lines) == (pace == 1.0 and shown)
    assert lines == [f"lengths {tenth}0/100" for tenth in range(1, 10)]
