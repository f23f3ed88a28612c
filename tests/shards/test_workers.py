"""Several processes clean clips: in order, a few at a time, and none takes the others down."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PosixPath

import psutil
import pytest
from sounds import Sounds

from w2v_abx.audio import Cleaning, decode, load
from w2v_abx.clips import Clip, Failure
from w2v_abx.shards import workers
from w2v_abx.shards.workers import Cleaned, Workers


@pytest.fixture
def sounds(tmp_path: Path) -> Sounds:
    sounds = Sounds(tmp_path)
    for i in range(12):
        sounds.add(f"clip{i}", seconds=0.05 + 0.3 * (i % 3 == 0))
    return sounds


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_order_and_failures_among_them(sounds: Sounds, tmp_path: Path, processes: int) -> None:
    sounds.clips.insert(5, Clip("gone", tmp_path / "gone.wav"))
    with Workers(processes, Cleaning(level="peak"), "wav") as cleaners:
        results = list(cleaners.clean(sounds.clips))
    assert results[5] == Failure("missing", f"{tmp_path / 'gone.wav'}: does not exist")
    for clip, result in zip(sounds.clips, results, strict=True):
        if isinstance(result, Cleaned):
            samples = load(clip.path, cleaning=Cleaning(level="peak"))
            assert result.samples == len(samples)
            assert abs(decode(result.audio) - samples).max() < 1 / 32768
    assert sum(isinstance(result, Cleaned) for result in results) == 12


def test_few_clips_are_taken_before_they_are_asked_for(sounds: Sounds) -> None:
    taken: list[str] = []

    def clips() -> Iterator[Clip]:
        for clip in sounds.clips:
            taken.append(clip.key)
            yield clip

    with Workers(2, Cleaning(), "flac") as cleaners:
        results = cleaners.clean(clips())
        next(results)
        assert len(taken) == workers.CLIPS_AHEAD * 2
        next(results)
        assert len(taken) == workers.CLIPS_AHEAD * 2 + 1


class Deadly(PosixPath):
    """The path of a file that takes the process down which reads it, as one may that crashes its decoder."""

    def __reduce__(self) -> tuple:
        return os.abort, ()


def once(flag: Path, path: Path) -> Path:
    if not flag.exists():
        flag.touch()
        os.abort()
    return path


class Once(PosixPath):
    """The same, the first time only."""

    def __reduce__(self) -> tuple:
        return once, (Path(f"{self}.once"), Path(self))


def test_a_clip_that_crashes_its_process_is_left_out_and_the_others_go_on(sounds: Sounds) -> None:
    clips = [*sounds.clips]
    clips.insert(3, Clip("deadly", Deadly(sounds.clips[0].path)))
    clips.insert(9, Clip("once", Once(sounds.clips[1].path)))
    with Workers(2, Cleaning(), "wav") as cleaners:
        results = list(cleaners.clean(clips))
    assert [number for number, result in enumerate(results) if isinstance(result, Failure)] == [3]
    assert results[3].reason == "crashed"  # type: ignore[union-attr]
    assert len(results) == 14


def test_a_process_killed_in_the_middle_of_an_answer_is_waited_for_by_nobody(tmp_path: Path) -> None:
    sounds = Sounds(tmp_path)
    for i in range(6):
        sounds.add(f"clip{i}", seconds=40.0)  # more bytes than a pipe holds: without a reader, each is half written
    with Workers(2, Cleaning(), "wav") as cleaners:
        results = cleaners.clean(sounds.clips)
        first = next(results)
        writing = [psutil.Process(worker.process.pid) for worker in cleaners._workers]
        for process in writing:
            process.kill()  # wherever it is
            process.wait(60)
        rest = list(results)
    assert [isinstance(result, Cleaned) for result in [first, *rest]] == [True] * 6
    with contextlib.suppress(OSError), Workers(2, Cleaning(), "wav") as cleaners:
        next(cleaners.clean(sounds.clips))
        writing = [psutil.Process(worker.process.pid) for worker in cleaners._workers]
        time.sleep(0.3)
        raise OSError("the disk is full")
    _, alive = psutil.wait_procs(writing, timeout=60)
    assert not alive


def test_a_script_without_a_guard_is_not_run_again(sounds: Sounds, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "from w2v_abx.audio import Cleaning\n"
        "from w2v_abx.clips import Clip\n"
        "from w2v_abx.shards.workers import Workers\n"
        "print('once')\n"
        f"clips = [Clip(str(path), path) for path in Path({str(tmp_path)!r}).glob('*.wav')]\n"
        "with Workers(2, Cleaning(), 'wav') as cleaners:\n"
        "    print(len(list(cleaners.clean(clips))))\n"
    )
    command = [sys.executable, tmp_path / "script.py"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["once", "12"]


def test_what_nobody_foresaw_leaves_out_one_clip(sounds: Sounds, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_or_fail(path: Path, *arguments: object) -> object:
        if path == sounds.clips[2].path:
            raise MemoryError("no room")
        return load(path)

    monkeypatch.setattr(workers, "load", load_or_fail)
    with Workers(1, Cleaning(), "wav") as cleaners:
        results = list(cleaners.clean(sounds.clips))
    assert results[2] == Failure("failed", f"{sounds.clips[2].path}: MemoryError: no room")
    assert sum(isinstance(result, Cleaned) for result in results) == 11


STUCK = """
import sys, time
from pathlib import Path
from w2v_abx.audio import Cleaning
from w2v_abx.clips import Clip
from w2v_abx.shards.workers import Workers
with Workers(2, Cleaning(), "wav") as cleaners:
    list(cleaners.clean(Clip(str(i), Path(sys.argv[1])) for i in range(4)))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_decoder_at_work_ends_with_its_command(tmp_path: Path, end: signal.Signals) -> None:
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text("#!/bin/sh\nexec sleep 777\n")
    ffmpeg.chmod(0o755)
    (tmp_path / "a.m4a").write_bytes(b"no sound")
    command = [sys.executable, "-c", STUCK, str(tmp_path / "a.m4a")]
    process = subprocess.Popen(command, env=os.environ | {"IMAGEIO_FFMPEG_EXE": str(ffmpeg)}, stderr=subprocess.DEVNULL)
    sleeping: list[psutil.Process] = []
    while len(sleeping) < 2:
        assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        sleeping = [child for child in children if child.is_running() and child.name() == "sleep"]
        time.sleep(0.05)
    process.send_signal(end)
    process.wait(120)
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not alive
