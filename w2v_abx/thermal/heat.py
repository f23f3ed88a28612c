"""One temperature and the share of time that a device may work because of it.

A velocity-form PI law holds the temperature at a target a little below its limit,

    d(duty)/dt = gain / heating · ((target − T) / settling − dT/dt),

that is: it steers the slope of the temperature towards an exponential approach, braking before the target is reached.
The velocity form has no wind-up when the duty is at an end. ``heating`` (°C/s at full duty) is learnt from the steepest
rise seen. The duty may fall faster than it rises.
"""

import math
from dataclasses import dataclass

__all__ = ["Heat"]

SMOOTHING = 3.0  # s, time constant of the slope's low-pass filter: over the 1 °C steps of most sensors
TREND = 10.0  # s, of the slope that heating is learnt from: a chip jumps some degrees under load in its first second
GAIN = 0.05  # 1/s, bandwidth of the slope loop: stable with some 6 s of sensor delay and smoothing
SETTLING = 60.0  # s, of the exponential approach to the target: slower than the slope loop, or the two would fight
FASTEST_RISE, FASTEST_FALL = 0.03, 0.2  # 1/s, of the duty; the latter while the temperature truly rises
SLOWEST = 0.5  # °C/s, of heating: assumed until more is seen
COLD = 40.0  # °C below the limit, from where a device may begin at full duty


@dataclass
class Heat:
    """What is known of one temperature. ``excess``: °C above its limit, negative below it; None: not read yet.

    ``threshold``: where the hardware was seen to slow itself down; ``throttled``: it does so now. ``duty``: the share of
    time at work that this temperature allows. Times are seconds on the caller's clock.
    """

    temperature: float | None = None
    excess: float | None = None
    shutdown: float | None = None
    threshold: float | None = None
    throttled: bool = False
    read_at: float | None = None
    slope: float = 0.0
    trend: float = 0.0
    heating: float = SLOWEST
    step: float = 1.0
    jitter: float = 0.0
    worked: float = 0.0
    seen: float = 0.0
    duty: float = 1.0

    def learn(self, time: float, temperature: float, limit: float, headroom: float, worked: float) -> None:
        """Take a reading, and steer. ``worked``: the duty that the device had since the last one."""
        previous, passed = self.excess, time - (self.read_at or 0.0)
        self.temperature, self.excess, self.read_at = temperature, temperature - limit, time
        if previous is None and self.heating == SLOWEST:  # nothing is known of how fast it heats: begin with care
            self.duty = max(0.3, min(self.duty, -self.excess / COLD))
        if previous is None or passed <= 0:
            return
        slope = (self.excess - previous) / passed
        self.step = min(self.step, abs(self.excess - previous) or self.step)
        surprise = abs(slope - self.slope) * passed
        self.jitter += (surprise - self.jitter) * -math.expm1(-passed / TREND)
        self.slope += (slope - self.slope) * -math.expm1(-passed / SMOOTHING)
        self.trend += (slope - self.trend) * -math.expm1(-passed / TREND)
        self.seen += passed
        self.worked = max(worked, self.worked * math.exp(-passed / SETTLING))  # what is seen now was worked before
        if self.seen >= TREND / 2:  # a filter that has only begun shows less than there is
            self.heating = max(self.heating, self.trend / -math.expm1(-self.seen / TREND) / max(self.worked, 0.3))
        change = GAIN / self.heating * ((-headroom - self.excess) / SETTLING - self.slope) * passed
        # Alike in both directions where the slope may be noise, which would else wear the duty down.
        fall = FASTEST_FALL if self._rise() > 0 else FASTEST_RISE
        self.duty += min(FASTEST_RISE * passed, max(-fall * passed, change))

    def _rise(self) -> float:
        """The slope beyond what one step of the sensor, or noise, would show."""
        return max(0.0, self.slope - max(self.step, self.jitter) / SMOOTHING)

    def foreseen(self, time: float, seconds: float) -> float:
        """°C above the limit in so many seconds, if the last rise seen goes on; a fall is not counted on."""
        if self.excess is None or self.read_at is None:
            return -math.inf
        return self.excess + self._rise() * (time - self.read_at + seconds)

    def forget(self) -> None:
        """The device was left alone for a while: what was read of it no longer holds, what was learnt does."""
        self.temperature = self.excess = self.shutdown = self.read_at = None
        self.slope = self.trend = self.seen = 0.0
        self.throttled = False
