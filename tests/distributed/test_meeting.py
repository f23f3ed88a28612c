"""Ranks meet where nobody else gets in: in a folder of this user's, or with a token."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from filelock import FileLock

from w2v_abx.distributed import meeting
from w2v_abx.distributed.meeting import MeetingFolder, SignedStore, private_folder
from w2v_abx.errors import InputError

SUPPORT = Path(__file__).resolve().parents[1] / "support"
LOOPBACK = {"127.0.0.1", "::1"}


def launch(folder: Path, *environments: dict[str, str]) -> list[dict[str, Any]]:
    """Start ranks as a launcher does, with further variables of each, and return what they found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", f"from rank_tasks import *; launched(Path({str(folder)!r}))"],
            env=os.environ
            | {"PYTHONPATH": str(SUPPORT), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(environments))}
            | environment,
        )
        for rank, environment in enumerate(environments)
    ]
    assert [rank.wait(120) for rank in ranks] == [0] * len(ranks)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(len(ranks))]


def test_on_one_machine_ranks_listen_to_it_alone(tmp_path: Path) -> None:
    for found in launch(tmp_path, *[{"LOCAL_WORLD_SIZE": "2"}] * 2):
        assert found == {"job": "the job", "told": 42, "sum": 2.0, "listening": found["listening"]}
        assert found["listening"]
        assert set(found["listening"]) <= LOOPBACK


def test_ranks_of_torchrun(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(f"from rank_tasks import *; launched(Path({str(tmp_path)!r}))")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(SUPPORT)}
    subprocess.run([*command, tmp_path / "rank.py"], env=environment, check=True, timeout=120, capture_output=True)
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert [found["job"], found["told"], found["sum"]] == ["the job", 42, 2.0]
        assert set(found["listening"]) <= LOOPBACK


def test_on_several_machines_ranks_need_one_token(tmp_path: Path) -> None:
    first, second = launch(tmp_path, *[{"W2V_ABX_TOKEN": "0123456789abcdef"}] * 2)
    assert [found["sum"] for found in (first, second)] == [2.0, 2.0]
    for found in launch(tmp_path, {}, {"W2V_ABX_TOKEN": "short"}):
        assert "export W2V_ABX_TOKEN=$(openssl rand -hex 16)" in found["error"]


@pytest.mark.parametrize("key", ["job", "shared/1", "failed/0"])
def test_a_message_without_the_token_is_refused(key: str) -> None:
    store = dist.HashStore()
    own, other = (SignedStore(store, token) for token in ("0123456789abcdef", "0123456789abcdeF"))
    assert own.get(key) is None
    own.set(key, "täxt")
    assert own.get(key) == "täxt"
    with pytest.raises(InputError, match=f"'{key}' .* was not written with this job's W2V_ABX_TOKEN"):
        other.get(key)
    signed = store.get(f"w2v-abx/{key}")
    for forged in (b"", b"text", b"\xff" * 80, signed[:64] + b"other text", b"0" * 64 + b"text"):
        store.set(f"w2v-abx/{key}", forged)
        with pytest.raises(InputError, match="refused"):
            own.get(key)
    store.set("w2v-abx/another", signed)  # what was said elsewhere
    with pytest.raises(InputError, match="refused"):
        own.get("another")


def test_the_folder_is_this_users_alone(tmp_path: Path) -> None:
    with private_folder() as folder:
        ranks = MeetingFolder(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert ranks.get("shared/1") is None
        ranks.set("shared/1", "text")
        assert MeetingFolder(folder).get("shared/1") == "text"
    assert not folder.exists()
    for use in (lambda: ranks.get("shared/1"), lambda: ranks.set("shared/1", "text")):
        with pytest.raises(ConnectionError):
            use()
    assert not folder.exists()
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path)
    for other in (open_to_all, linked, tmp_path / "none"):
        with pytest.raises(InputError, match="alone|not there"):
            MeetingFolder(other)


def test_folders_of_killed_processes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting.tempfile, "tempdir", str(tmp_path))
    left, used, fresh = (tmp_path / f"w2v-abx-ranks-{name}" for name in ("left", "used", "fresh"))
    for folder in (left, used, fresh):
        folder.mkdir()
        (folder / "store").touch()
    with FileLock(used / ".lock"):
        for folder in (left, used):
            os.utime(folder, (time.time() - 7200,) * 2)
        with private_folder():
            assert [folder.exists() for folder in (left, used, fresh)] == [False, True, True]
