"""How long a device worked and rested."""

from dataclasses import dataclass
from typing import Self

__all__ = ["StepStats"]


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

    def add(self, other: "StepStats", keep: float = 1.0) -> None:
        """Add what happened after this; ``keep``: share of the seconds known so far that still counts."""
        self.busy = keep * self.busy + other.busy
        self.rested = keep * self.rested + other.rested
        if other.longest > self.longest:
            self.longest, self.clips, self.batch = other.longest, other.clips, other.batch
