import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from w2v_abx.errors import NotWritten
from w2v_abx.system import atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    atomic.write_json(target, {"error": 0.25})

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "disk full")

    with pytest.raises(OSError, match="disk full") as failed:
        atomic.write(target, fail)
    assert failed.value.filename == str(target)
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(target, {"error": float("nan")})
    assert os.listdir(tmp_path) == ["result.json"]  # noqa: PTH208
    assert '"error": 0.25' in target.read_text()


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "new.txt"
    with pytest.raises(NotWritten, match=r"file/new.txt cannot be written \(.+\)"), atomic.written(path):
        atomic.write_text(path, "new", lasting=True)


KILLED = """
import os, signal, sys
from pathlib import Path
from w2v_abx.system import atomic

folder, how = Path(sys.argv[1]), sys.argv[2]

def die(path):
    (path / "half" if path.is_dir() else path).write_text("half")
    print("ready", flush=True)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()  # lives until it is told

atomic.write(folder / "result.json", die) if sys.argv[3] == "file" else atomic.write_folder(folder / "made", die)
"""


def begin(folder: Path, how: str, kind: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, folder, how, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path, kind: str) -> None:
    (tmp_path / ".123-mine").write_text("a stranger's")
    begin(tmp_path, "killed", kind).wait()
    living = begin(tmp_path, "living", kind)  # it sweeps, too
    held = [path.name for path in tmp_path.iterdir() if path.name != ".123-mine"]
    assert len(held) == 1
    begin(tmp_path, "killed", kind).wait()
    assert len(list(tmp_path.iterdir())) == 3
    atomic.write_text(tmp_path / "next.txt", "next")
    assert {path.name for path in tmp_path.iterdir()} == {".123-mine", "next.txt", *held}
    living.communicate()
    assert living.returncode == 0
    made = "result.json" if kind == "file" else "made"
    assert {path.name for path in tmp_path.iterdir()} == {".123-mine", "next.txt", made}


def test_a_link_in_the_place_of_what_is_left_is_not_followed(tmp_path: Path) -> None:
    """Folders for half-made files may be open to all, as /tmp is."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / f"{atomic.UNFINISHED}espeak-1").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "open" / f"{atomic.UNFINISHED}1-pipe")
    atomic.sweep(tmp_path / "open")
    assert (tmp_path / "precious" / "file").read_text() == "x"


def test_threads_that_write_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: atomic.write_text(tmp_path / "a", f"{number}"), range(40)))
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208
    assert (tmp_path / "a").read_text().isdigit()
