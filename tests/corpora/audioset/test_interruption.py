"""A fetch that is killed, or that two processes share, ends as one that ran through."""

import multiprocessing
import signal
import sqlite3
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from audioset_lists import DOG, Row, corpus, fetch_some, noise, video
from loopback import SILENCE, Answer, Loopback

COUNT = 6
ROWS: list[Row] = [(video(number), 2.0, 4.0, [DOG]) for number in range(COUNT)]


def start(folder: Path, server: Loopback, rows: list[Row]) -> ForkServerProcess:
    """Another process that fetches some of the clips."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["w2v_abx.corpora.audioset", "yt_dlp.extractor.generic"])  # imported once for all
    keys = [f"{name}_2000" for name, *_ in rows]
    process = context.Process(target=fetch_some, args=(folder, ROWS, f"{server.base}/{{id}}.wav", keys), daemon=True)
    process.start()
    return process


def result(folder: Path) -> tuple[dict[str, bytes], dict[str, tuple[str, str]]]:
    """Every file but the ledger, and the ledger's statuses."""
    root = folder / "root"
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("ledger.sqlite")
    }
    connection = sqlite3.connect(root / "ledger.sqlite")
    statuses = {
        key: (status, source) for key, status, source in connection.execute("SELECT key, fate, source FROM clips")
    }
    connection.close()
    return files, statuses


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    for number in range(COUNT - 1):  # the last is gone
        noise(folder / f"{video(number)}.wav", number)
    return folder


def test_killed_and_run_again(tmp_path: Path, site: Path) -> None:
    killed = tmp_path / "killed"
    with Loopback(site) as server:
        undisturbed = corpus(tmp_path / "undisturbed", ROWS, url=f"{server.base}/{{id}}.wav")
        assert len(undisturbed.fetch(undisturbed.clips())) == 1
        for number in (2, 4):  # where the server falls silent, it cannot come to its end
            name = f"{video(number)}.wav"
            server.always[name] = SILENCE
            before, deadline = server.count(name), time.monotonic() + 60
            process = start(killed, server, ROWS)
            while server.count(name) == before and time.monotonic() < deadline:
                time.sleep(0.005)
            process.kill()
            process.join(60)
            assert process.exitcode == -signal.SIGKILL
            del server.always[name]
            assert not list((killed / "root" / "clips").rglob(f"{video(number)}_2000.flac"))
        assert list((killed / "root" / "unfinished").iterdir())
        last = corpus(killed, ROWS, url=f"{server.base}/{{id}}.wav")
        assert len(last.fetch(last.clips())) == 1
    files, statuses = result(killed)
    assert (files, statuses) == result(tmp_path / "undisturbed")
    assert len(statuses) == COUNT
    assert statuses[f"{video(COUNT - 1)}_2000"] == ("removed", "youtube")
    assert not list((killed / "root" / "unfinished").iterdir())


def test_two_processes_share_a_folder_and_its_ledger(tmp_path: Path, site: Path) -> None:
    with Loopback(site) as server:
        server.answers[f"{video(0)}.wav"] = [Answer(503)]
        # As parts of an array, and a few clips that both ask for.
        parts = [start(tmp_path / "shared", server, rows) for rows in (ROWS[:4], ROWS[2:])]
        for part in parts:
            part.join(60)
        assert [part.exitcode for part in parts] == [0, 0]
    files, statuses = result(tmp_path / "shared")
    assert {key: status for key, (status, _) in statuses.items()} == {
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
