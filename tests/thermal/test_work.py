"""Work of a device that does it after the call has returned, on a fake one."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from w2v_abx.thermal import Decision, Governor, Reading, StepStats
from w2v_abx.thermal.controller import ThermalController
from w2v_abx.thermal.sensors.sampler import Sampler
from w2v_abx.thermal.work import WorkMeter

CUDA = torch.device("cuda", 0)


class FakeCuda:
    """A queue of kernels: ``now`` is the host's time, ``done`` when the device has done all that it was handed."""

    def __init__(self) -> None:
        self.now = self.done = 0.0
        self.waits = 0
        self.rests: list[float] = []

    def work(self, seconds: float) -> None:
        """Hand over a kernel, which takes the host a moment."""
        self.done = max(self.done, self.now) + seconds
        self.now += 0.001

    def synchronize(self, device: Any) -> None:
        self.waits += 1
        self.now = max(self.now, self.done)

    def sleep(self, seconds: float) -> None:
        assert self.done <= self.now, "it rests while kernels run"
        self.now += seconds
        self.rests.append(seconds)


class FakeEvent:
    """Of the fake device that the test has put here."""

    cuda: FakeCuda

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self, stream: Any) -> None:
        self.at = max(self.cuda.now, self.cuda.done)

    def query(self) -> bool:
        return self.at <= self.cuda.now

    def elapsed_time(self, end: "FakeEvent") -> float:
        return 1000 * (end.at - self.at)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeEvent.cuda = FakeCuda()
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", fake.synchronize)
    return fake


@pytest.fixture
def sampler(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    """Reads nothing, and has the fake device's clock."""
    sampler = Sampler({}, 1.0)
    monkeypatch.setattr(sampler, "now", lambda: cuda.now)
    monkeypatch.setattr(sampler, "sleep", cuda.sleep)
    return sampler


class FakeThrottle:
    """Runs nothing."""

    size: int | None = None
    handed: tuple[int, int] | None = None

    def __init__(self) -> None:
        self.hooks: list[Callable[[], None]] = []

    def limit(self, cause: str, clips: int | None) -> None: ...


def test_work_takes_as_long_as_the_device_takes_for_it(cuda: FakeCuda, sampler: Sampler) -> None:
    meter, throttle = WorkMeter(CUDA, sampler, alone=True), FakeThrottle()
    meter.throttle = throttle
    for seconds in (0.3, 0.5):
        meter.begin()
        cuda.work(seconds)
        throttle.handed = 4, 8
        meter.end(wait=False)
    assert meter.take(divisible=True) == StepStats()  # it has only been handed over
    cuda.now = 0.4
    meter.measure(wait=False)
    assert meter.take(divisible=True) == StepStats.of_work(pytest.approx(0.3), 4, 8)
    meter.measure(wait=True)
    assert meter.take(divisible=True) == StepStats.of_work(pytest.approx(0.5), 4, 8)
    assert cuda.now == pytest.approx(0.8)


class Scripted(Governor):
    """Runs at full duty, and rests once, for two seconds, at the third decision."""

    def __init__(self) -> None:
        super().__init__()
        self.stats: list[StepStats] = []

    def decide(self, time: float, readings: Sequence[Reading], stats: StepStats) -> Decision:
        self.stats.append(stats)
        rests = len(self.stats) == 3
        return Decision("rest" if rests else "run", None, 2.0 * rests, "", "limit" if rests else "free")


def test_a_run_at_full_duty_never_waits_and_rests_once_the_device_is_idle(
    cuda: FakeCuda, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    governor, throttle = Scripted(), FakeThrottle()
    monkeypatch.setattr("w2v_abx.thermal.controller.Sampler", lambda *_: sampler)
    controller = ThermalController({}, governor, CUDA, 1.0, lambda *_: None)
    controller.attach(throttle)
    waits = []
    for _ in range(3):
        throttle.hooks[0]()
        waits.append(cuda.waits)
        cuda.work(0.3)
        throttle.handed = 4, 8
        controller.end()
    controller.close()
    assert throttle.hooks == []
    assert waits == [0, 0, 1]
    assert sum(cuda.rests) == pytest.approx(2.0)
    # Nothing is said of how long micro-batches take until that is known.
    assert [stats.longest > 0 for stats in governor.stats] == [False, False, False, True]
    last = governor.stats[-1]
    assert (last.clips, last.batch, last.longest, last.rested) == (4, 8, pytest.approx(0.3), pytest.approx(2.0))
    assert last.busy == pytest.approx(0.6, abs=0.01)
