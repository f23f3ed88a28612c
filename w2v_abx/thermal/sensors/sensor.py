"""What every sensor has in common: it can be read, and gives readings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from w2v_abx.errors import InputError

__all__ = ["HARDWARE_HEAT", "SOFTWARE_HEAT", "Reading", "Sensor", "SensorError"]

PLAUSIBLE_CELSIUS = (-40.0, 150.0)  # outside of this, the sensor is wrong
HARDWARE_HEAT = "hardware thermal slowdown"  # beyond the slowdown temperature: clocks are halved or worse
SOFTWARE_HEAT = "software thermal slowdown"  # the driver lowers clocks to hold a temperature of its own


class SensorError(InputError):
    """A sensor is missing, failed, or said something impossible."""


@dataclass(frozen=True)
class Reading:
    """The temperature and state of a device at one moment. What a sensor does not know is None, never a guess.

    ``time``: seconds on the reader's clock. ``temperature``: of the core, °C. ``power``: W. ``utilisation``: 0 to 1.
    ``throttle``: why the device runs slower than it could, in words; empty: it does not. ``slowdown`` and ``shutdown``:
    the core's own limits, °C. ``memory`` and ``memory_slowdown``: the same of the device's memory. ``device``: whose
    reading it is where there are several.
    Raises SensorError for a temperature that is not finite or outside of −40 to 150 °C.
    """

    time: float
    temperature: float
    power: float | None = None
    utilisation: float | None = None
    throttle: Sequence[str] | None = None
    slowdown: float | None = None
    shutdown: float | None = None
    memory: float | None = None
    memory_slowdown: float | None = None
    device: str = ""

    def __post_init__(self) -> None:
        for temperature in (self.temperature, self.memory):
            if temperature is not None and not PLAUSIBLE_CELSIUS[0] <= temperature <= PLAUSIBLE_CELSIUS[1]:
                raise SensorError(f"the sensor says {temperature} °C, which cannot be")

    @property
    def throttled(self) -> bool | None:
        """Whether the hardware slows itself down because of heat."""
        return None if self.throttle is None else HARDWARE_HEAT in self.throttle


@runtime_checkable
class Sensor(Protocol):
    """Anything that can be read."""

    def read(self, time: float) -> Reading:
        """Read the device now, at ``time`` (seconds on the caller's clock). Raises SensorError when it cannot."""
        ...
