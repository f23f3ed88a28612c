import os
from pathlib import Path

import pytest

from w2v_abx.errors import NotWritten
from w2v_abx.system import atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    atomic.write_json(target, {"error": 0.25})

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic.write(target, fail)
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(target, {"error": float("nan")})
    assert os.listdir(tmp_path) == ["result.json"]  # noqa: PTH208
    assert '"error": 0.25' in target.read_text()


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "new.txt"
    with pytest.raises(NotWritten, match=r"file/new.txt cannot be written \(.+\)"), atomic.written(path):
        atomic.write_text(path, "new", lasting=True)
