"""Sources that are read ahead in threads give what they would have given one after another."""

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
from w2v_abx.system.prefetch import prefetch
from w2v_abx.system.signals import Stopped, Watch


def reading() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 120
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_the_things_come_in_turn_until_one_that_is_due_is_missing(counts: list[int]) -> None:
    expected = []
    for turn in range(max(counts) + 1):
        for number, count in enumerate(counts):
            if turn >= count:
                break
            expected.append((number, turn))
        else:
            continue
        break
    sources = [iter([(number, turn) for turn in range(count)]) for number, count in enumerate(counts)]
    assert list(prefetch(sources)) == expected


def test_an_error_comes_where_its_thing_would_have_come() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("the second clip is damaged")

    things = prefetch([iter([0, 0, 0]), broken()])
    assert [next(things) for _ in range(3)] == [0, 1, 0]
    with pytest.raises(ValueError, match="the second clip is damaged"):
        next(things)
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
        list(prefetch([stalled()], while_waiting=give_up))

    with pytest.raises(Stopped, match="75") as stopped, Watch(["SIGTERM"]) as watch:
        wait(watch)
    assert stopped.value.message == "stopped by SIGTERM (the clips that were due had not come)"
    come.set()
    assert soon(lambda: reading() == 0)


def test_sources_are_read_ahead_but_not_far_and_closed_when_nobody_wants_more() -> None:
    given_out, closed = [], []

    def endless(number: int) -> Iterator[int]:
        try:
            while True:
                given_out.append(number)
                yield number
        finally:
            closed.append(number)

    things = prefetch([endless(0), endless(1)])
    assert next(things) == 0
    assert soon(lambda: given_out.count(0) >= 3 and given_out.count(1) >= 2)
    time.sleep(0.1)
    assert len(given_out) <= 8
    things.close()
    assert soon(lambda: reading() == 0 and sorted(closed) == [0, 1])
