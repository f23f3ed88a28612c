"""One temperature, and the share of time that a device may work because of it.

A velocity-form PI law holds the temperature at a target a little below its limit,

    d(duty)/dt = gain / heating · ((target − T) / settling − dT/dt),

that is: it steers the slope of the temperature towards an exponential approach, braking before the target is reached.
The velocity form has no wind-up when the duty is at an end. ``heating`` (°C/s at full duty) is learnt from the steepest
rise seen.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["MEMORY", "Heat", "hottest"]

MEMORY = " memory"  # after a device's name: its memory

SLOPE_SECONDS = 3.0  # time constant of the slope's low-pass filter: over the 1 °C steps of most sensors
TREND_SECONDS = 10.0  # of the slope that heating is learnt from: a chip jumps some degrees in its first second of load
GAIN_PER_SECOND = 0.05  # bandwidth of the slope loop: 37° of phase are left with 8 s of sensor delay, 47° with 4 s
SETTLING_SECONDS = 60.0  # of the exponential approach to the target: slower than the slope loop, or both oscillate
MAX_RISE_PER_SECOND, MAX_FALL_PER_SECOND = 0.03, 0.2  # of the duty
MIN_HEATING_CELSIUS_PER_SECOND = 0.5  # assumed until more is seen
URGENT_SECONDS, URGENT_FACTOR = 5.0, 2.0  # the loop is so many times as fast where the limit is so many seconds away
COLD_CELSIUS = 40.0  # below the limit, from where a device may begin at full duty
MIN_FIRST_DUTY = 0.3  # that a device begins with, however near to the limit it is


@dataclass
class Heat:
    """One temperature, what was learnt of it, and the duty that it allows; times are seconds on the caller's clock.

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
    heating: float = MIN_HEATING_CELSIUS_PER_SECOND
    step: float = 1.0
    jitter: float = 0.0
    worked: float = 0.0
    duty: float = 1.0
    begun: bool = False

    def learn(self, time: float, temperature: float, limit: float, headroom: float, worked: float) -> None:
        """Learn from a reading, and steer the duty. ``worked``: the duty that the device had since the last one."""
        previous, passed = self.excess, time - (self.read_at or 0.0)
        self.temperature, self.excess, self.read_at = temperature, temperature - limit, time
        if not self.begun:
            self.duty, self.begun = max(MIN_FIRST_DUTY, min(self.duty, -self.excess / COLD_CELSIUS)), True
        if previous is None or passed <= 0:
            return
        self.seen += passed
        slope = (self.excess - previous) / passed
        self.step = min(self.step, abs(self.excess - previous) or self.step)
        self.jitter += (abs(slope - self.slope) * passed - self.jitter) * -math.expm1(-passed / TREND_SECONDS)
        self.slope += (slope - self.slope) * -math.expm1(-passed / SLOPE_SECONDS)
        self.trend += (slope - self.trend) * -math.expm1(-passed / TREND_SECONDS)
        self.worked = max(worked, self.worked * math.exp(-passed / SETTLING_SECONDS))
        if self.seen >= TREND_SECONDS / 2:  # a filter that has only begun shows less than there is
            self.heating = max(self.heating, self.drift / max(self.worked, MIN_FIRST_DUTY))
        change = GAIN_PER_SECOND / self.heating * ((-headroom - self.excess) / SETTLING_SECONDS - self.slope) * passed
        if self.foreseen(time, URGENT_SECONDS) >= 0:
            change *= URGENT_FACTOR
        self.duty += min(MAX_RISE_PER_SECOND * passed, max(-MAX_FALL_PER_SECOND * passed, change))

    @property
    def drift(self) -> float:
        """°C/s: the trend, corrected for the short time that its filter has run."""
        return self.trend / -math.expm1(-self.seen / TREND_SECONDS) if self.seen > 0 else 0.0

    @property
    def rise(self) -> float:
        """°C/s by which it rises, beyond what one step of the sensor, or noise, would show."""
        return max(0.0, self.slope - max(self.step, self.jitter) / SLOPE_SECONDS)

    @property
    def swing(self) -> float:
        """°C by which readings differ from what was to be expected, beyond one step of the sensor."""
        return max(0.0, self.jitter - self.step)

    @property
    def known(self) -> bool:
        """Whether it was read for long enough to tell how fast it rises."""
        return self.seen >= TREND_SECONDS

    def steady(self, duty: float) -> float:
        """Return the duty that surely heats no further, if the last readings were at ``duty``."""
        # The steps of the sensor may hide a slow rise.
        return duty - max(self.rise, self.drift + self.step / (2 * TREND_SECONDS)) / self.heating

    def foreseen(self, time: float, seconds: float) -> float:
        """Extrapolate to °C above the limit in so many seconds; a fall is not counted on."""
        if self.excess is None or self.read_at is None:
            return -math.inf
        return self.excess + self.rise * (time - self.read_at + seconds)

    def described(self) -> str:
        """Say in words what was read last."""
        assert self.temperature is not None
        assert self.excess is not None
        limit = f"limit {self.temperature - self.excess:.1f} °C"
        if self.threshold is not None:
            limit += f", as the hardware slowed down at {self.threshold:.1f} °C"
        return f"{self.temperature:.1f} °C ({limit}), {self.slope:+.2f} °C/s"

    def forget(self) -> None:
        """Drop what was read, which no longer holds after a while without readings, and keep what was learnt."""
        self.temperature = self.excess = self.shutdown = self.read_at = None
        self.seen = self.slope = self.trend = self.jitter = 0.0
        self.throttled = False


def hottest(heats: Mapping[str, Heat]) -> str | None:
    """Name the device, or memory, that is nearest to its limit or furthest beyond it; None: nothing was read yet."""
    excess = {name: heat.excess for name, heat in heats.items() if heat.excess is not None}
    return max(excess, key=lambda name: excess[name], default=None)
