"""Read iterators ahead, each in a thread of its own."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Generic, TypeVar

__all__ = ["prefetch"]

AHEAD = 2  # items of each source that wait to be taken
POLL = 1.0  # seconds between calls of ``while_waiting``

Item = TypeVar("Item")


def prefetch(
    sources: Sequence[Iterator[Item]], name: str = "prefetch", while_waiting: Callable[[], object] = lambda: None
) -> Generator[Item]:
    """Yield one item of each source after the other, until one that is due has no more.

    What a source raises is raised when its item is due. Closing the generator ends the threads, each when its source
    has given the item that it is at; a source that waits for something does not keep the process from ending.

    Args:
        name: of the threads.
        while_waiting: is called each second while an item is waited for; what it raises ends the waiting.
    """
    readers = [_Reader(source, name) for source in sources]
    try:
        while True:
            for reader in readers:
                found, error = reader.take(while_waiting)
                if error is not None:
                    raise error
                if not found:
                    return
                yield found[0]
    finally:
        for reader in readers:
            reader.stop()


class _Reader(Generic[Item]):
    """One source and its thread."""

    def __init__(self, source: Iterator[Item], name: str) -> None:
        self.items: queue.Queue[tuple[list[Item], BaseException | None]] = queue.Queue(AHEAD)
        self._stopped = False
        threading.Thread(target=self._read, args=(source,), name=name, daemon=True).start()

    def _read(self, source: Iterator[Item]) -> None:
        try:
            for item in source:
                self.items.put(([item], None))
                if self._stopped:
                    return
            self.items.put(([], None))
        except BaseException as error:
            self.items.put(([], error))

    def take(self, while_waiting: Callable[[], object]) -> tuple[list[Item], BaseException | None]:
        """Take the next item, none at the end; or what was raised instead."""
        while True:
            try:
                return self.items.get(timeout=POLL)
            except queue.Empty:
                while_waiting()

    def stop(self) -> None:
        """Let the thread end: what it may be waiting to hand over is taken, and it hands over no more after that."""
        self._stopped = True
        try:
            while True:
                self.items.get_nowait()
        except queue.Empty:
            return
