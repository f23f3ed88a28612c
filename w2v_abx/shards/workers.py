"""Clips cleaned and encoded by several processes, in the order in which they were given."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Self

from w2v_abx.audio import AudioError, Cleaning, Format, encode, load
from w2v_abx.clips import Clip, Failure
from w2v_abx.errors import InputError
from w2v_abx.system.machine import keep_freed_memory

__all__ = ["Cleaned", "Workers"]

AHEAD = 4  # clips for each process that are worked on, or wait to be, before they are asked for
INTERRUPTIBLE = 0.5  # s after which an interrupt is looked for


class Cleaned(NamedTuple):
    """The bytes of a clip's audio file, and its length in samples at 16 kHz."""

    audio: bytes
    samples: int


class Workers:
    """Processes that clean clips; with one, the work is done in this process.

    A clip that brings its process down (a decoder that crashes, memory that runs out) is tried once more, alone; if it
    does so again it is left out as ``crashed``, and the others go on.
    """

    def __init__(self, processes: int, cleaning: Cleaning, format: Format) -> None:
        self.processes, self.cleaning, self.format = processes, cleaning, format
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            if kind is not None:  # nobody waits for what is under way
                for process in list(getattr(self._pool, "_processes", None) or ()):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(process, signal.SIGKILL)
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def clean(self, clips: Iterable[Clip]) -> Iterator[Cleaned | Failure]:
        """What became of each clip, in order; no more than a few of each process are held at once."""
        if self.processes == 1:
            for clip in clips:
                yield clean(clip.path, clip.start, clip.end, self.cleaning, self.format)
            return
        waiting: deque[tuple[Clip, Future[Cleaned | Failure]]] = deque()
        source = iter(clips)
        while True:
            for clip in source:
                waiting.append((clip, self._submit(clip)))
                if len(waiting) >= AHEAD * self.processes:
                    break
            if not waiting:
                return
            clip, future = waiting.popleft()
            try:
                yield _result(future)
            except BrokenProcessPool:
                self._pool = None
                yield self._alone(clip)
                waiting = deque((other, self._submit(other)) for other, _ in waiting)

    def _submit(self, clip: Clip) -> "Future[Cleaned | Failure]":
        if self._pool is None:
            self._pool = _pool(self.processes)
        try:
            return self._pool.submit(clean, clip.path, clip.start, clip.end, self.cleaning, self.format)
        except BrokenProcessPool as error:  # which clip it was, the answers tell
            broken: Future[Cleaned | Failure] = Future()
            broken.set_exception(error)
            return broken

    def _alone(self, clip: Clip) -> Cleaned | Failure:
        with _pool(1) as pool:
            try:
                return _result(pool.submit(clean, clip.path, clip.start, clip.end, self.cleaning, self.format))
            except BrokenProcessPool:
                return Failure("crashed", f"{clip.path}: the process that decoded it crashed, twice")


def _result(future: "Future[Cleaned | Failure]") -> Cleaned | Failure:
    """Wait for a result, awake now and then: an interrupt may come to a thread that cannot wake this one."""
    while not wait_for([future], INTERRUPTIBLE).done:
        pass
    return future.result()


def clean(path: Path, start: float, end: float | None, cleaning: Cleaning, format: Format) -> Cleaned | Failure:
    """A stretch of a file (seconds) as it goes into its shard."""
    try:
        samples = load(path, start, end, cleaning)
        return Cleaned(encode(samples, format), len(samples))
    except AudioError as error:
        return Failure(error.reason, str(error))
    except InputError:  # nothing that is wrong with this clip
        raise
    except Exception as error:  # one clip that nobody foresaw does not stop the others
        return Failure("failed", f"{path}: {type(error).__name__}: {error}")


class _Process(ForkServerProcess):
    """Imports what it needs, and not the caller's script, which may import much and have no `__main__` guard."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return ForkServerProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main


class _Context(ForkServerContext):
    """Processes forked from a server that has no threads; those of this process may hold locks."""

    Process = _Process


def _pool(processes: int) -> ProcessPoolExecutor:
    context = _Context()
    context.set_forkserver_preload(["w2v_abx.shards.workers"])
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)


def _begin() -> None:
    """Leave interrupts to the parent, and end with it, however it ends; so does an ffmpeg that runs meanwhile."""
    os.setpgrp()
    keep_freed_memory()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
