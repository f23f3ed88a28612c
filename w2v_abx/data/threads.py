"""Iterators that are read ahead, each in a thread of its own."""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Generic, TypeVar

from w2v_abx.distributed.collectives import world_size
from w2v_abx.errors import InputError

__all__ = ["in_turn"]

AHEAD = 2  # things of each iterator that wait to be taken
LISTEN = 1.0  # seconds between looks at whether the run is to stop, while a thing is waited for

Thing = TypeVar("Thing")


def in_turn(sources: Sequence[Iterator[Thing]]) -> Generator[Thing]:
    """One thing of each source after the other, until one that is due has no more.

    What a source raises is raised when its thing is due; InputError, where the run was asked to stop and the thing does
    not come. (Not where several processes train together: those that have theirs would wait for this one.) Closing this
    ends the threads, each when its source has given the thing that it is at.
    """
    lines = [_Line(source) for source in sources]
    try:
        while True:
            for line in lines:
                found, error = line.take()
                if error is not None:
                    raise error
                if not found:
                    return
                yield found[0]
    finally:
        for line in lines:
            line.stop()


class _Line(Generic[Thing]):
    """One source and its thread."""

    def __init__(self, source: Iterator[Thing]) -> None:
        self.things: queue.Queue[tuple[list[Thing], BaseException | None]] = queue.Queue(AHEAD)
        self._stopped = False
        # A daemon: a source that waits for a server does not keep a command from ending.
        threading.Thread(target=self._read, args=(source,), name="clips", daemon=True).start()

    def _read(self, source: Iterator[Thing]) -> None:
        try:
            for thing in source:
                self.things.put(([thing], None))
                if self._stopped:
                    return
            self.things.put(([], None))
        except BaseException as error:
            self.things.put(([], error))

    def take(self) -> tuple[list[Thing], BaseException | None]:
        """The next thing, none at the end; or what was raised instead."""
        from w2v_abx.system import signals

        while True:
            try:
                return self.things.get(timeout=LISTEN)
            except queue.Empty:
                if signals.asked() and world_size() == 1:
                    raise InputError("the clips that were due had not come") from None

    def stop(self) -> None:
        """Let the thread end: what it may be waiting to hand over is taken, and it hands over no more after that."""
        self._stopped = True
        try:
            while True:
                self.things.get_nowait()
        except queue.Empty:
            return
