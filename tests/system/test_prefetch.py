"""Work that threads do ahead gives what it would have given one item after another."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.errors import InputError
from w2v_abx.system import prefetch as module
from w2v_abx.system import signals
from w2v_abx.system.prefetch import in_order
from w2v_abx.system.signals import Stopped, Watch


def reading() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 120
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 4))
def test_results_come_in_order_whoever_is_done_first(pauses: list[int], threads: int) -> None:
    def work(item: tuple[int, int]) -> tuple[int, int]:
        time.sleep(item[1] / 10_000)
        return item

    items = list(enumerate(pauses))
    assert list(in_order(items, work, threads)) == items


def test_an_error_comes_where_its_result_would_have_come() -> None:
    def broken() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("the third clip is damaged")

    def refuse(item: int) -> int:
        if item == 2:
            raise TimeoutError("the second clip does not come")
        return item

    for work, expected, error in ((int, [1, 2], "the third clip"), (refuse, [1], "the second clip")):
        results = in_order(broken(), work, 2)
        assert [next(results) for _ in expected] == expected
        with pytest.raises((ValueError, TimeoutError), match=error):
            next(results)
        assert soon(lambda: reading() == 0)


def test_a_run_that_is_to_stop_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.01)
    come = threading.Event()

    def stalled() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), signal.SIGTERM)
        come.wait(20)

    def give_up() -> None:
        if signals.asked():
            raise InputError("the clips that were due had not come")

    def wait(watch: Watch) -> None:
        watch.patient = True
        list(in_order(stalled(), int, 1, while_waiting=give_up))

    with pytest.raises(Stopped, match="75") as stopped, Watch(["SIGTERM"]) as watch:
        wait(watch)
    assert stopped.value.message == "stopped by SIGTERM (the clips that were due had not come)"
    come.set()
    assert soon(lambda: reading() == 0)


def test_items_are_taken_ahead_but_not_far_and_their_source_closed_when_nobody_wants_more() -> None:
    given_out, closed = [], []

    def endless() -> Iterator[int]:
        try:
            while True:
                given_out.append(len(given_out))
                yield given_out[-1]
        finally:
            closed.append(True)

    results = in_order(endless(), int, 2)
    assert next(results) == 0
    assert soon(lambda: len(given_out) >= 4)
    time.sleep(0.1)
    assert len(given_out) <= 5
    results.close()
    del results
    assert soon(lambda: reading() == 0 and closed == [True])
