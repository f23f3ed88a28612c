"""A checkpoint is whole or not there, and one that was damaged later is told apart."""

import errno
import os
import random
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from w2v_abx.errors import InputError
from w2v_abx.training.saving import CheckpointFiles
from w2v_abx.training.saving.files import checkpoint_of, defect, load, sizes


def checkpoint(step: int = 3, numbers: int = 50_000) -> dict[str, Any]:
    weights = torch.arange(numbers, dtype=torch.float32)
    return {"state_dict": {"a": weights, "same": weights}, "global_step": step, "callbacks": {"x": [1, "two"]}}


def save(path: Path, *arguments: int) -> Path:
    CheckpointFiles().save_checkpoint(checkpoint(*arguments), path)
    return path


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    path = save(tmp_path / "new" / "a.ckpt")
    found = CheckpointFiles().load_checkpoint(path, weights_only=False)
    assert torch.equal(found["state_dict"]["a"], checkpoint()["state_dict"]["a"])
    assert found["callbacks"] == checkpoint()["callbacks"]
    assert defect(path) is None
    assert [path.name for path in path.parent.iterdir()] == ["a.ckpt"]
    assert path.stat().st_size < 1.1 * sizes(checkpoint()) == 1.1 * 200_000


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "global_step": 1, "trap": signal.Signals(15)}, tmp_path / "trap.ckpt")
    with pytest.raises(InputError, match="trap.ckpt is not a whole checkpoint"):
        load(tmp_path / "trap.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        CheckpointFiles().load_checkpoint(tmp_path / "trap.ckpt", weights_only=False)
    with pytest.raises(InputError, match="resume=.*none.ckpt is not there"):
        load(tmp_path / "none.ckpt")


def damaged(data: bytes) -> Iterator[bytes]:
    """Cut short at several lengths, and with single bits flipped."""
    for share in (0, 0.001, 0.3, 0.9, 0.999):
        yield data[: int(share * len(data))]
    yield data[:-1]
    moments = random.Random(0)
    for _ in range(20):
        flipped = bytearray(data)
        flipped[moments.randrange(len(data))] ^= 1 << moments.randrange(8)
        yield bytes(flipped)


def test_the_newest_that_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "checkpoints"
    save(folder / "step-00000009.ckpt", 9)
    save(folder / "thermal-stop.ckpt", 10)
    newest = save(folder / "step-00000011.ckpt", 11)
    (folder / "last.ckpt").symlink_to(newest.name)
    (folder / ".99-step-00000012.ckpt").write_bytes(b"half")
    assert checkpoint_of(tmp_path) == newest
    assert not caplog.records
    whole = newest.read_bytes()
    for data in damaged(whole):
        newest.write_bytes(data)
        assert defect(newest) is not None
        caplog.clear()
        assert checkpoint_of(tmp_path) == folder / "thermal-stop.ckpt"
        assert "step-00000011.ckpt is not whole" in caplog.text
        assert "going on from thermal-stop.ckpt" in caplog.text
        assert not newest.exists()  # last.ckpt points nowhere until the next one
        assert (folder / "step-00000011.ckpt.broken").read_bytes() == data
    for path in folder.glob("*.ckpt"):
        if path.exists():
            path.write_bytes(b"")
    assert checkpoint_of(tmp_path) is None
    assert "going on from the beginning" in caplog.text
    assert checkpoint_of(tmp_path / "nowhere") is None


def refused(path: Path, numbers: int) -> str:
    """What is said of a checkpoint that does not fit; the one that is there stays as it is."""
    good = path.read_bytes()
    with pytest.raises(InputError) as caught:
        save(path, 4, numbers)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == good
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert defect(path) is None
    return str(caught.value)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        said = refused(save(tmp_path / "a.ckpt"), 400_000)
        assert "was not written (No space left on device): it takes 1.6 MB" in said
        assert f"{tmp_path} has 0." in said
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        assert "(File too large): it takes 1.6 MB" in refused(path, 400_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("written", [0, 1, 100_000, 199_999])
def test_a_disk_that_fills_up_at_any_point(written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.ckpt")
    room = written

    def write(handle: int, data: memoryview) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = min(room, len(data))
        room -= done
        return done

    monkeypatch.setattr(os, "write", write)
    assert "No space left" in refused(path, 50_000)


def test_a_disk_that_fails_when_asked_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.ckpt")

    def fsync(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    assert "cannot be written (Input/output error)" in refused(path, 50_000)
