"""A fetch that is killed, or that two processes share, ends as one that ran through."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from audioset_lists import DOG, Row, corpus, noise, video
from loopback import Answer, Loopback

COUNT = 12
ROWS: list[Row] = [(video(number), 2.0, 4.0, [DOG]) for number in range(COUNT)]
SCRIPT = """
import json, sys
from pathlib import Path
from audioset_lists import corpus
folder, url, rows, keys = json.loads(sys.argv[1])
made = corpus(Path(folder), [tuple(row) for row in rows], url=url)
made.fetch([clip for clip in made.clips() if clip.key in keys])
"""


def start(folder: Path, server: Loopback, rows: list[Any]) -> subprocess.Popen[bytes]:
    keys = [f"{name}_2000" for name, *_ in rows]
    arguments = json.dumps([str(folder), f"{server.base}/{{id}}.wav", ROWS, keys])
    tests = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, arguments], env=environment)


def result(folder: Path) -> tuple[dict[str, bytes], dict[str, tuple[str, str]]]:
    """Every file but the ledger, and the ledger's fates."""
    root = folder / "root"
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("ledger.sqlite")
    }
    connection = sqlite3.connect(root / "ledger.sqlite")
    fates = {key: (fate, source) for key, fate, source in connection.execute("SELECT key, fate, source FROM clips")}
    connection.close()
    return files, fates


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    for number in range(COUNT - 1):  # the last is gone
        noise(folder / f"{video(number)}.wav", number)
    return folder


def test_killed_and_run_again(tmp_path: Path, site: Path) -> None:
    with Loopback(site) as server:
        (tmp_path / "killed").mkdir()
        (tmp_path / "undisturbed").mkdir()
        undisturbed = corpus(tmp_path / "undisturbed", ROWS, url=f"{server.base}/{{id}}.wav")
        assert len(undisturbed.fetch(undisturbed.clips())) == 1
        before = len(server.requests)
        for share in (3, 15):  # requests after which it is killed
            process = start(tmp_path / "killed", server, ROWS)
            until = before + share
            while len(server.requests) < until and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
            before = len(server.requests)
        assert (tmp_path / "killed" / "root" / "unfinished").is_dir()
        assert result(tmp_path / "killed")[0] != result(tmp_path / "undisturbed")[0]
        last = corpus(tmp_path / "killed", ROWS, url=f"{server.base}/{{id}}.wav")
        assert len(last.fetch(last.clips())) == 1
    files, fates = result(tmp_path / "killed")
    assert (files, fates) == result(tmp_path / "undisturbed")
    assert len(fates) == COUNT
    assert fates[f"{video(COUNT - 1)}_2000"] == ("removed", "youtube")
    assert not list((tmp_path / "killed" / "root" / "unfinished").iterdir())


def test_two_processes_share_a_folder_and_its_ledger(tmp_path: Path, site: Path) -> None:
    (tmp_path / "shared").mkdir()
    with Loopback(site) as server:
        server.answers[f"{video(0)}.wav"] = [Answer(503)]
        # As parts of an array, and a few clips that both ask for.
        parts = [start(tmp_path / "shared", server, rows) for rows in (ROWS[:8], ROWS[5:])]
        assert [part.wait(60) for part in parts] == [0, 0]
    files, fates = result(tmp_path / "shared")
    assert {key: fate for key, (fate, _) in fates.items()} == {
        f"{name}_2000": "ok" if number < COUNT - 1 else "removed" for number, (name, *_) in enumerate(ROWS)
    }
    assert sum(name.endswith(".flac") for name in files) == COUNT - 1


def test_a_ledger_that_was_lost_costs_no_clip(tmp_path: Path, site: Path) -> None:
    with Loopback(site) as server:
        made = corpus(tmp_path, ROWS[:3], url=f"{server.base}/{{id}}.wav")
        assert made.fetch(made.clips()) == {}
        for path in made.root.glob("ledger.sqlite*"):
            path.unlink()
        requests = len(server.requests)
        assert made.fetch(made.clips()) == {}
        assert len(server.requests) == requests
    assert set(result(tmp_path)[1].values()) == {("ok", "cache")}
