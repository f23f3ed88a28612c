"""How many clips may run at once for the temperature's sake.

A micro-batch that heats by more than the ripple swings the temperature, and during a long one nothing is decided. So
they shrink, and grow back step by step.
"""

import math
from dataclasses import dataclass
from typing import Self

__all__ = ["MIN_DIVIDED_SECONDS", "RIPPLE_CELSIUS", "MicroBatchLimit", "StepStats"]

RIPPLE_CELSIUS = 1.0  # that one micro-batch may add near the target
MIN_DIVIDED_SECONDS = 0.1  # of micro-batches that are shortened because of swings
SHRINK_INTERVAL_SECONDS = 5.0  # between two halvings: the device needs time to show what the last one did
LONG_AGO_SECONDS = -1e9  # when nothing has shrunk or grown yet; finite, for JSON
MAX_CAUTION = 64.0  # times grow_after


@dataclass
class StepStats:
    """Seconds of work and of rest, and the longest micro-batch among the work.

    ``longest``: seconds of that micro-batch, which had ``clips`` of a ``batch`` of so many; 0: nothing ran that could
    have been smaller.
    """

    busy: float = 0.0
    rested: float = 0.0
    longest: float = 0.0
    clips: int = 1
    batch: int = 1

    @classmethod
    def of_work(cls, seconds: float, clips: int = 0, batch: int = 0) -> Self:
        """Make the record of one micro-batch; ``clips`` 0: of work that cannot be divided."""
        return cls(seconds, 0.0, seconds, clips, batch) if clips else cls(seconds)

    def add(self, other: Self, keep: float = 1.0) -> None:
        """Add what happened after this; ``keep``: share of the seconds known so far that still counts."""
        self.busy = keep * self.busy + other.busy
        self.rested = keep * self.rested + other.rested
        if other.longest > self.longest:
            self.longest, self.clips, self.batch = other.longest, other.clips, other.batch


@dataclass
class MicroBatchLimit:
    """``clips``: the most that may run at once; None: any number. ``caution``: times ``grow_after`` to be cool before
    growing."""

    clips: int | None = None
    shrunk_at: float = LONG_AGO_SECONDS
    grown_at: float = LONG_AGO_SECONDS
    caution: float = 1.0

    def settled(self, time: float) -> bool:
        """Whether the device had time to show what the last shrinking did."""
        return time - self.shrunk_at >= SHRINK_INTERVAL_SECONDS

    def fitting(self, stats: StepStats, rise: float) -> int:
        """Count the clips of a micro-batch that heats by no more than twice the ripple, at ``rise`` °C/s."""
        return max(1, int(2 * stats.clips * RIPPLE_CELSIUS / (stats.longest * rise)))

    def shrink(self, time: float, clips: int, grow_after: float) -> None:
        """Lower the limit to ``clips``."""
        if time - self.grown_at < 2 * grow_after:  # growing was too much: the two would alternate
            self.caution = min(2 * self.caution, MAX_CAUTION)
        self.clips, self.shrunk_at = min(clips, self.clips or clips), time

    def larger(self, stats: StepStats) -> tuple[int, float]:
        """Return the next limit, with which a batch takes one micro-batch fewer, and the seconds that such a
        micro-batch will take; ``stats`` may be of a remainder."""
        clips = math.ceil(stats.batch / max(1, math.ceil(stats.batch / (self.clips or stats.clips)) - 1))
        return clips, stats.longest * clips / stats.clips

    def grow(self, time: float, clips: int, batch: int) -> None:
        """Raise the limit to ``clips``; to none where that is the whole batch."""
        self.clips, self.grown_at = (None if clips >= batch else clips), time
