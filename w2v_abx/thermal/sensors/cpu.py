"""Read the CPU through psutil."""

from typing import Any

import psutil

from w2v_abx.thermal.sensors.sensor import Reading, SensorError

__all__ = ["Cpu"]

THROTTLING = ("coretemp", "k10temp", "zenpower")  # whose critical temperature is where the CPU slows itself down
CPU_CHIPS = (*THROTTLING, "cpu_thermal", "cpu-thermal", "soc_thermal")
PLAUSIBLE_LIMITS_CELSIUS = (40, 130)  # drivers fill unknown limits with 0 or with values like 65261.8


class Cpu:
    """Reads the hottest sensor of the CPU that psutil sees (Linux and FreeBSD). Power is not known."""

    def __init__(self) -> None:
        """Raises SensorError where the machine shows no CPU temperature."""
        self.read(0.0)

    def read(self, time: float) -> Reading:
        """Read the CPU. Raises SensorError where it no longer shows its temperature."""
        name, entry = _hottest()
        low, most = PLAUSIBLE_LIMITS_CELSIUS
        high, critical = (
            value if value is not None and low < value < most else None for value in (entry.high, entry.critical)
        )
        if name in THROTTLING:
            high, critical = high or critical, None
        busy = psutil.cpu_percent(None) / 100
        return Reading(time, float(entry.current), utilisation=busy, slowdown=high, shutdown=critical)


def _hottest() -> tuple[str, Any]:
    """Return the chip's name and psutil's entry of its hottest sensor."""
    # The function does not exist on macOS and Windows, and finds nothing in most virtual machines.
    chips: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    for name in CPU_CHIPS:
        entries = [entry for entry in chips.get(name, []) if entry.current is not None]
        if entries:
            return name, max(entries, key=lambda entry: entry.current)
    raise SensorError("psutil shows no CPU temperature on this machine: give another thermal.sensor, or null")
