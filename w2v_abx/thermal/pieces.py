"""How many clips may run at once for the temperature's sake.

A micro-batch that heats by more than the ripple swings the temperature, and one that is long runs blind. So they
shrink, and grow back step by step. Larger ones draw more power, as what each of them costs whatever its size takes a
smaller share of their time; their durations tell how much, and the duty falls by as much when they grow, lest a leap
be seen in the temperature.
"""

import math
from dataclasses import dataclass, field

__all__ = ["RIPPLE", "Pieces", "Ran"]

RIPPLE = 1.0  # °C that one micro-batch may add near the target
SHORT = 0.1  # s; micro-batches are not shortened below that because of swings
SHRINK_EVERY = 5.0  # s between two halvings: the device needs time to show what the last one did
RENEWAL = 0.2  # share of a new duration in the one that is known
MOST_OVERHEAD = 4.0  # clips' worth of time that a micro-batch is thought to cost on top
MOST_CAUTION = 64.0  # times grow_after


@dataclass(frozen=True)
class Ran:
    """What happened since the last decision: seconds of work and of rest, clips per micro-batch, and per batch.

    ``piece``: seconds of the longest single micro-batch; 0: there was one, which took all the work. ``divisible``:
    False where micro-batches cannot be made smaller, as in validation.
    """

    busy: float = 0.0
    rested: float = 0.0
    clips: int = 1
    batch: int = 1
    piece: float = 0.0
    divisible: bool = True

    @property
    def seconds(self) -> float:
        """Of one micro-batch."""
        return self.piece or self.busy


@dataclass
class Pieces:
    """``limit``: at most so many clips at once; None: any number. ``seconds``: of a micro-batch, by its clips."""

    limit: int | None = None
    shrunk_at: float = -math.inf
    grown_at: float = -math.inf
    caution: float = 1.0
    seconds: dict[int, float] = field(default_factory=dict)

    def note(self, ran: Ran) -> None:
        """Keep how long a micro-batch took."""
        if ran.seconds > 0:
            known = self.seconds.get(ran.clips, ran.seconds)
            self.seconds[ran.clips] = known + RENEWAL * (ran.seconds - known)

    def settled(self, time: float) -> bool:
        """Whether the device had time to show what the last shrinking did."""
        return time - self.shrunk_at >= SHRINK_EVERY

    def fitting(self, ran: Ran, rise: float) -> int:
        """Clips in a micro-batch that heats by no more than twice the ripple, at so many °C/s."""
        return max(1, int(2 * ran.clips * RIPPLE / (ran.seconds * rise)))

    def shrink(self, time: float, clips: int, grow_after: float) -> None:
        """Hold at no more than so many clips."""
        if time - self.grown_at < 2 * grow_after:  # growing was too much: the two would alternate
            self.caution = min(2 * self.caution, MOST_CAUTION)
        self.limit, self.shrunk_at = min(clips, self.limit or clips), time

    def larger(self, ran: Ran) -> tuple[int, float, float]:
        """As many clips as make one micro-batch fewer of a batch; the seconds that such a one will take; and the power
        drawn now as a share of that to come."""
        before = self.limit or ran.clips
        after = math.ceil(ran.batch / max(1, math.ceil(ran.batch / before) - 1))
        seconds = self.seconds.get(before, ran.seconds * before / ran.clips)  # what ran last may have been a remainder
        return after, seconds * after / before, self._power(before, ran.batch) / self._power(after, ran.batch)

    def grow(self, time: float, clips: int, batch: int) -> None:
        """Allow so many."""
        self.limit, self.grown_at = (None if clips >= batch else clips), time

    def _power(self, clips: int, batch: int) -> float:
        """Of a batch in micro-batches of so many clips, relative to work without what each of them costs."""
        few, many = min(self.seconds, default=0), max(self.seconds, default=0)
        if few == many:
            return 1.0
        longer = self.seconds[many] - self.seconds[few]
        overhead = self.seconds[few] * (many - few) / longer - few if longer > 0 else MOST_OVERHEAD
        return batch / (batch + math.ceil(batch / clips) * min(max(overhead, 0.0), MOST_OVERHEAD))
