"""Jobs that share a machine, each with GPUs of its own."""

import os
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from w2v_abx.distributed import gpus
from w2v_abx.errors import InputError


def test_jobs_of_one_machine_have_gpus_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
    assert [gpus.jobs_at_once(devices) for devices in (1, 2, 3, "auto", [0, 1])] == [4, 2, 1, 1, 1]
    assert [gpus.jobs_at_once(1, accelerator) for accelerator in ("auto", "gpu", "cpu")] == [4, 4, 1]
    monkeypatch.setattr(gpus, "_taken", None)
    monkeypatch.setattr(gpus, "POLL_INTERVAL", 0.01)
    with pytest.raises(InputError, match="trainer.devices=5: this machine has 4 GPUs"):
        gpus.take_gpus(5, tmp_path)
    gpus.take_gpus("auto", tmp_path)  # the job wants all, and names none
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5,6,7"

    freed = threading.Event()

    def others() -> None:
        with FileLock(tmp_path / "3.lock"), FileLock(tmp_path / "6.lock"):
            with FileLock(tmp_path / "5.lock"):
                started.set()
                time.sleep(0.2)
            freed.set()
            done.wait(60)

    started, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=others)
    thread.start()
    started.wait(60)
    gpus.take_gpus(2, tmp_path)
    assert freed.is_set()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,7"
    gpus.take_gpus(2, tmp_path)  # the next job of this process: the same
    with pytest.raises(InputError, match="equally many devices"):
        gpus.take_gpus(1, tmp_path)
    done.set()
    thread.join()


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        (None, ["0", "1"]),
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("0,2,1", ["0"]),
        ("GPU-8932f937, MIG-1", ["GPU-8932f937", "MIG-1"]),
    ],
)
def test_the_gpus_of_this_process(named: str | None, seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr(gpus, "_count", lambda: 2)
    assert gpus.visible_gpus() == seen
    monkeypatch.setattr(gpus, "_count", lambda: 0)
    assert gpus.visible_gpus() == []
