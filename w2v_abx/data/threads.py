"""Iterators that are read ahead, each in a thread of its own."""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Generic, TypeVar

__all__ = ["in_turn"]

AHEAD = 2  # things of each iterator that wait to be taken

Thing = TypeVar("Thing")


def in_turn(sources: Sequence[Iterator[Thing]]) -> Generator[Thing]:
    """One thing of each source after the other, until one that is due has no more.

    What a source raises is raised when its thing is due. Closing this ends the threads, each when its source has given
    the thing that it is at.
    """
    lines = [_Line(source) for source in sources]
    try:
        while True:
            for line in lines:
                found, error = line.things.get()
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

    def stop(self) -> None:
        """Let the thread end: what it may be waiting to hand over is taken, and it hands over no more after that."""
        self._stopped = True
        try:
            while True:
                self.things.get_nowait()
        except queue.Empty:
            return
