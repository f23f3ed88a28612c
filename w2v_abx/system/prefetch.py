"""Work on items ahead, in threads, and give them out in their order."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

__all__ = ["in_order"]

ITEMS_AHEAD = 2  # items of each thread that wait to be taken, or are worked on
POLL_SECONDS = 1.0  # seconds between calls of ``while_waiting``
END = object()

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    threads: int,
    name: str = "prefetch",
    while_waiting: Callable[[], object] = lambda: None,
) -> Generator[Result]:
    """Yield ``work(item)`` of each item, in order, done ahead by so many threads; with 0, when it is asked for.

    One thread at a time takes an item. What taking it or the work raises is raised when its result is due. Closing the
    generator ends the threads, each when it is done with what it is at; one that waits for something does not keep the
    process from ending.

    Args:
        name: of the threads.
        while_waiting: is called each second while a result is waited for; what it raises ends the waiting.
    """
    if not threads:
        for item in items:  # not map: a StopIteration of the work would end it as though all was done
            yield work(item)
        return
    source = iter(items)
    due: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    room, taking, stopped = threading.Semaphore(ITEMS_AHEAD * threads), threading.Lock(), threading.Event()

    def run() -> None:
        future: Future[Any] = Future()
        try:
            while room.acquire() and not stopped.is_set():
                with taking:
                    if stopped.is_set():
                        return
                    future = Future()
                    due.put(future)
                    item = next(source, END)
                if item is END:
                    future.set_result(END)
                    return
                future.set_result(work(item))  # type: ignore[arg-type]
                del item
        except BaseException as error:
            future.set_exception(error)

    try:
        for _ in range(threads):
            threading.Thread(target=run, name=name, daemon=True).start()
        while True:
            future = None
            while future is None:  # a thread puts it there before it takes the item
                try:
                    future = due.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    while_waiting()
            while not wait([future], POLL_SECONDS).done:
                while_waiting()
            if (result := future.result()) is END:
                return
            room.release()
            yield result
    finally:
        stopped.set()
        room.release(threads)
