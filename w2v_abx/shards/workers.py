"""Clips cleaned and encoded by several processes, in the order in which they were given."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple, Self

from w2v_abx.audio import AudioError, Cleaning, Format, encode, load
from w2v_abx.clips import Clip, Failure
from w2v_abx.errors import InputError
from w2v_abx.system import signals
from w2v_abx.system.machine import keep_freed_memory

__all__ = ["Cleaned", "Workers"]

CLIPS_AHEAD = 4  # clips for each process that are worked on, or wait to be, before they are asked for
CLIPS_SENT = 2  # of these, how many a process has been sent and not answered
POLL_SECONDS = 0.5  # s after which an interrupt is looked for
MAX_END_SECONDS = 5.0  # s that a killed process may take to be gone


class Cleaned(NamedTuple):
    """The bytes of a clip's audio file, and its length in samples at 16 kHz."""

    audio: bytes
    samples: int


class Workers:
    """Processes that clean clips; with one, the work is done in this process.

    A clip that ends its process (a decoder that crashes, memory that runs out) is tried once more, alone; if it
    does so again it is left out as ``crashed``, and the others go on.

    Each process answers through a pipe of its own, which ends with it: whatever it was at when it was killed, nobody
    waits for the rest. (The one pipe of a `concurrent.futures` pool would stay open, with half an answer in it.)
    """

    def __init__(self, processes: int, cleaning: Cleaning, format: Format) -> None:
        self.processes, self.cleaning, self.format = processes, cleaning, format
        self._workers: list[_Worker] = []
        self._unsent: deque[_Task] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with signals.held():  # they have no files open, and nothing that anybody still wants
            for worker in self._workers:
                worker.kill()
            for worker in self._workers:
                worker.process.join(MAX_END_SECONDS)
            self._workers = []

    def clean(self, clips: Iterable[Clip]) -> Iterator[Cleaned | Failure]:
        """What became of each clip, in order; no more than a few of each process are held at once."""
        if self.processes == 1:
            for clip in clips:
                yield clean(clip.path, clip.start, clip.end, self.cleaning, self.format)
            return
        due: deque[_Task] = deque()
        source = iter(clips)
        while True:
            fresh = [_Task(clip) for clip in islice(source, CLIPS_AHEAD * self.processes - len(due))]
            due += fresh
            self._unsent += fresh
            if not due:
                return
            self._collect(0)
            self._send()
            while due[0].outcome is None:
                self._collect(POLL_SECONDS)
                self._send()
            task = due.popleft()
            yield self._alone(task) if isinstance(task.outcome, _Crashed) else task.result()

    def _send(self) -> None:
        """Send clips to the processes that have few, and start these where there are too few."""
        while self._unsent:
            worker = min(self._workers, key=lambda worker: len(worker.sent), default=None)
            if worker is None or (worker.sent and len(self._workers) < self.processes):
                with signals.held():  # one that is half started would be nobody's
                    worker = _Worker(self.cleaning, self.format)
                    self._workers.append(worker)
            if len(worker.sent) >= CLIPS_SENT:
                return
            worker.sent.append(task := self._unsent.popleft())
            try:
                worker.connection.send((task.clip.path, task.clip.start, task.clip.end))
            except OSError:  # it has ended
                self._bury(worker)

    def _collect(self, seconds: float) -> None:
        """Take the answers that are there; wait for one so long, and no longer: an interrupt may come to a thread that
        cannot wake this one."""
        workers = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(workers), seconds):
            worker = workers[connection]  # type: ignore[index]
            try:
                outcome = worker.connection.recv()
                worker.sent.popleft().outcome = outcome
            except (EOFError, OSError):
                self._bury(worker)

    def _bury(self, worker: "_Worker") -> None:
        """Take back what a process that has ended was sent: the first clip has ended it."""
        worker.kill()
        self._workers.remove(worker)
        if worker.sent:
            worker.sent.popleft().outcome = _Crashed()
        self._unsent.extendleft(reversed(worker.sent))

    def _alone(self, task: "_Task") -> Cleaned | Failure:
        """Clean a clip that has ended its process once more, while no other is cleaned."""
        later, self._unsent = self._unsent, deque()
        while any(worker.sent for worker in self._workers):
            self._collect(POLL_SECONDS)
        later.extendleft(reversed(self._unsent))
        task.outcome, self._unsent = None, deque([task])
        self._send()
        while task.outcome is None:
            self._collect(POLL_SECONDS)
        self._unsent = later
        if isinstance(task.outcome, _Crashed):
            return Failure("crashed", f"{task.clip.path}: the process that decoded it crashed, twice")
        return task.result()


class _Crashed:
    """What became of a clip that ended its process."""


class _Task:
    """A clip, and what became of it; None: nothing yet."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.outcome: Cleaned | Failure | _Crashed | InputError | None = None

    def result(self) -> Cleaned | Failure:
        if isinstance(self.outcome, InputError):
            raise self.outcome
        assert isinstance(self.outcome, Cleaned | Failure)
        return self.outcome


class _Worker:
    """A process that cleans what it is sent. It is forked from a server that has no threads; those of this process may
    hold locks."""

    def __init__(self, cleaning: Cleaning, format: Format) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["w2v_abx.shards.workers"])
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, cleaning, format), daemon=True)
        self.sent: deque[_Task] = deque()  # not answered yet; it is at the first
        resource_tracker.ensure_running()  # which does as it likes with the mask of signals
        with _without_script(), theirs:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # which the server and its forks inherit
            try:
                self.process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def kill(self) -> None:
        """Kill it, and an ffmpeg that runs for it."""
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or has no group yet
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.connection.close()


def _work(connection: Connection, cleaning: Cleaning, format: Format) -> None:
    """Answer, in a process of its own, until there is nobody to ask."""
    _begin()
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            path, start, end = connection.recv()
            try:
                outcome: Cleaned | Failure | InputError = clean(path, start, end, cleaning, format)
            except InputError as error:
                outcome = error
            connection.send(outcome)


def clean(path: Path, start: float, end: float | None, cleaning: Cleaning, format: Format) -> Cleaned | Failure:
    """A span of a file (seconds) as it goes into its shard."""
    try:
        samples = load(path, start, end, cleaning)
        return Cleaned(encode(samples, format), len(samples))
    except AudioError as error:
        return Failure(error.reason, str(error))
    except InputError:  # nothing that is wrong with this clip
        raise
    except Exception as error:  # one clip that nobody foresaw does not stop the others
        return Failure("failed", f"{path}: {type(error).__name__}: {error}")


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Start processes that do not import the caller's script, which may import much and have no `__main__` guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


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
