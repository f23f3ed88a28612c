"""A governor tried out on a simulated device, beside running it at full or at a constant duty."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from w2v_abx.thermal import Decision, Governor, Reading, Simulated, SimulatedShutdown, StepStats

__all__ = ["Constant", "Course", "best_constant", "blindness", "run"]


@dataclass
class Course:
    """What happened. ``trace``: (s, °C) after each micro-batch and rest. ``work``: (s, clips) of each micro-batch.
    ``ended``: why before the time was up, if so: ``shutdown`` or what the governor said."""

    trace: list[tuple[float, float]] = field(default_factory=list)
    work: list[tuple[float, int]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    ended: str | None = None

    def peak(self) -> float:
        """The highest temperature, °C."""
        return max(temperature for _, temperature in self.trace)

    def swing(self, since: float) -> float:
        """Between the lowest and the highest temperature from a time on, °C."""
        late = [temperature for time, temperature in self.trace if time >= since]
        return max(late) - min(late)

    def rate(self, since: float) -> float:
        """Clips per second from a time on."""
        return sum(clips for time, clips in self.work if time >= since) / (self.trace[-1][0] - since)


def run(
    plant: Simulated,
    governor: Governor | None,
    seconds: float,
    *,
    batch: int = 16,
    period: float = 1.0,
    divisible: bool = True,
    sees: Callable[[Reading], bool] = lambda reading: True,
) -> Course:
    """Effective batches of ``batch`` clips for so long, governed, or at full duty. ``divisible``: False: all clips of a
    batch run at once, whatever the governor says. ``sees`` drops readings."""
    course = Course()
    due = plant.now()
    busy, clips = 0.0, batch

    def allowed() -> int | None:
        """Clips to run at once, after the rests that the governor asks for; None: it says stop."""
        nonlocal due, busy
        rested = 0.0
        while governor is not None:
            readings = []
            while due <= plant.now():
                readings.append(plant.read(due))
                due += period
            seen = [reading for reading in readings if sees(reading)]
            stats = StepStats(busy, rested, busy if divisible else 0.0, clips, batch)
            decision = governor.decide(plant.now(), seen, stats)
            course.decisions.append(decision)
            busy = 0.0
            if decision.action == "stop":
                course.ended = decision.reason
                return None
            if decision.action != "rest":
                return decision.microbatch if divisible and decision.microbatch else batch
            plant.sleep(decision.rest_seconds)
            rested = decision.rest_seconds
            course.trace.append((plant.now(), plant.temperature))
        return batch

    try:
        while plant.now() < seconds:
            left = batch
            while left:
                most = allowed()
                if most is None:
                    return course
                clips = min(left, most)
                busy = plant.work(clips)
                left -= clips
                course.work.append((plant.now(), clips))
                course.trace.append((plant.now(), plant.temperature))
    except SimulatedShutdown:
        course.trace.append((plant.now(), plant.temperature))
        course.ended = "shutdown"
    return course


def blindness(plant: Simulated, limit: float, batch: int = 16) -> float:
    """The lag of the sensor and the time of a batch, at once, over the time that full power takes from idle to the
    limit: what share of the way there is gone before anything can be known of it."""
    room = (limit - plant.temperature) * plant.capacity / (plant.full_watts - plant.idle_watts)
    return (plant.delay + plant.clip_seconds * (batch + plant.overhead_clips)) / room


@dataclass(frozen=True)
class Constant:
    """Micro-batches of ``clips``, each followed by a rest, so that work takes the share ``duty``; clips per second."""

    duty: float
    clips: int
    rate: float


def settled_peak(plant: Simulated, duty: float, clips: int) -> float:
    """The highest temperature, once it is the same in each cycle, of a constant duty (exact for a device that does not
    throttle): °C."""
    share = clips / (clips + plant.overhead_clips)
    power = plant.idle_watts + (plant.full_watts - plant.idle_watts) * share
    hot, cold = plant.ambient + power / plant.cooling, plant.ambient + plant.idle_watts / plant.cooling
    work = plant.clip_seconds * (clips + plant.overhead_clips)
    heated, cooled = (math.exp(-time * plant.cooling / plant.capacity) for time in (work, work * (1 / duty - 1)))
    begin = (cold * (1 - cooled) + hot * (1 - heated) * cooled) / (1 - heated * cooled)
    return hot + (begin - hot) * heated


def best_constant(plant: Simulated, limit: float, batch: int = 16) -> Constant:
    """The constant duty of the most clips per second that stays at or below ``limit``, over micro-batches of ``batch``,
    a half of it, a quarter and so on down to one."""
    best, clips = Constant(0.0, batch, 0.0), batch
    while clips:
        low, high = 0.0, 1.0
        if settled_peak(plant, 1.0, clips) <= limit:
            low = 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if settled_peak(plant, middle, clips) <= limit else (low, middle)
        rate = low * clips / (plant.clip_seconds * (clips + plant.overhead_clips))
        best = max(best, Constant(low, clips, rate), key=lambda constant: constant.rate)
        clips //= 2
    return best
