"""One temperature, and the share of time that a device may work because of it.

A velocity-form PI law holds the temperature at a target a little below its limit,

    d(duty)/dt = gain / heating · ((target − T) / settling − dT/dt),

that is: it steers the slope of the temperature towards an exponential approach, braking before the target is reached.
The velocity form has no wind-up when the duty is at an end. ``heating`` (°C/s at full duty) is learnt from the steepest
rise seen.
"""

import math
from dataclasses import dataclass

__all__ = ["Heat"]

SMOOTHING = 3.0  # s, time constant of the slope's low-pass filter: over the 1 °C steps of most sensors
TREND = 10.0  # s, of the slope that heating is learnt from: a chip jumps some degrees under load in its first second
GAIN = 0.05  # 1/s, bandwidth of the slope loop: 37° of phase are left with 8 s of sensor delay, 47° with 4 s
SETTLING = 60.0  # s, of the exponential approach to the target: slower than the slope loop, or the two would fight
FASTEST_RISE, FASTEST_FALL = 0.03, 0.2  # 1/s, of the duty
LEAST_HEATING = 0.5  # °C/s: assumed until more is seen
NEAR, URGENT = 5.0, 2.0  # the loop is so many times as fast where the limit would be reached in so many s
COLD = 40.0  # °C below the limit, from where a device may begin at full duty
LEAST_BEGINNING = 0.3  # duty that a device begins with, however near to the limit it is


@dataclass
class Heat:
    """What is known of one temperature; times are seconds on the caller's clock.

    Attributes:
        temperature: The last one, °C; None: not read yet.
        excess: °C above the limit, negative below it.
        shutdown: Where the device switches itself off, °C.
        threshold: Where the hardware was seen to slow itself down; ``throttled``: it does so now.
        slope, trend: °C/s, quickly and slowly smoothed.
        step: The smallest difference of readings: what the sensor rounds to, at most 1 °C.
        jitter: °C by which readings differ from what was to be expected, on average.
        worked: The largest duty of late; what is read now may be the work of half a minute ago.
        duty: The share of time at work that this temperature allows.
        begun: Whether that is known at all, from this run or from the one before.
    """

    temperature: float | None = None
    excess: float | None = None
    shutdown: float | None = None
    threshold: float | None = None
    throttled: bool = False
    read_at: float | None = None
    seen: float = 0.0
    slope: float = 0.0
    trend: float = 0.0
    heating: float = LEAST_HEATING
    step: float = 1.0
    jitter: float = 0.0
    worked: float = 0.0
    duty: float = 1.0
    begun: bool = False

    def learn(self, time: float, temperature: float, limit: float, headroom: float, worked: float) -> None:
        """Take a reading, and steer. ``worked``: the duty that the device had since the last one."""
        previous, passed = self.excess, time - (self.read_at or 0.0)
        self.temperature, self.excess, self.read_at = temperature, temperature - limit, time
        if not self.begun:
            self.duty, self.begun = max(LEAST_BEGINNING, min(self.duty, -self.excess / COLD)), True
        if previous is None or passed <= 0:
            return
        self.seen += passed
        slope = (self.excess - previous) / passed
        self.step = min(self.step, abs(self.excess - previous) or self.step)
        self.jitter += (abs(slope - self.slope) * passed - self.jitter) * -math.expm1(-passed / TREND)
        self.slope += (slope - self.slope) * -math.expm1(-passed / SMOOTHING)
        self.trend += (slope - self.trend) * -math.expm1(-passed / TREND)
        self.worked = max(worked, self.worked * math.exp(-passed / SETTLING))
        if self.seen >= TREND / 2:  # a filter that has only begun shows less than there is
            self.heating = max(self.heating, self.drift / max(self.worked, LEAST_BEGINNING))
        change = GAIN / self.heating * ((-headroom - self.excess) / SETTLING - self.slope) * passed
        if self.foreseen(time, NEAR) >= 0:
            change *= URGENT
        self.duty += min(FASTEST_RISE * passed, max(-FASTEST_FALL * passed, change))

    @property
    def drift(self) -> float:
        """°C/s, the trend as it would be had it been filtered for ever."""
        return self.trend / -math.expm1(-self.seen / TREND) if self.seen > 0 else 0.0

    @property
    def rise(self) -> float:
        """°C/s, beyond what one step of the sensor, or noise, would show."""
        return max(0.0, self.slope - max(self.step, self.jitter) / SMOOTHING)

    @property
    def swing(self) -> float:
        """°C by which readings differ from what was to be expected, beyond one step of the sensor."""
        return max(0.0, self.jitter - self.step)

    @property
    def known(self) -> bool:
        """Whether it was read for long enough to tell how fast it rises."""
        return self.seen >= TREND

    def steady(self, duty: float) -> float:
        """The duty that surely heats no further, if the last readings were at ``duty``: steps may hide a slow rise."""
        return duty - max(self.rise, self.drift + self.step / (2 * TREND)) / self.heating

    def foreseen(self, time: float, seconds: float) -> float:
        """°C above the limit in so many seconds, if the last rise seen goes on; a fall is not counted on."""
        if self.excess is None or self.read_at is None:
            return -math.inf
        return self.excess + self.rise * (time - self.read_at + seconds)

    def forget(self) -> None:
        """The device was left alone for a while: what was read of it no longer holds, what was learnt does."""
        self.temperature = self.excess = self.shutdown = self.read_at = None
        self.seen = self.slope = self.trend = self.jitter = 0.0
        self.throttled = False
