"""Sensors of this machine: the CPU's, through psutil; and which one belongs to the device that trains."""

import importlib
from typing import Any

import torch

from w2v_abx.thermal.nvml import Nvml
from w2v_abx.thermal.sensor import Reading, Sensor, SensorError

__all__ = ["Cpu", "auto_sensor"]

THROTTLING = ("coretemp", "k10temp", "zenpower")  # whose critical temperature is where the CPU slows itself down
CPU_CHIPS = (*THROTTLING, "cpu_thermal", "cpu-thermal", "soc_thermal")
PLAUSIBLE_LIMITS_CELSIUS = (40, 130)  # drivers fill unknown limits with 0 or with values like 65261.8


class Cpu:
    """Reads the hottest sensor of the CPU that psutil sees (Linux and FreeBSD). Power is not known."""

    def __init__(self) -> None:
        """Raises SensorError where the machine shows no CPU temperature."""
        self._psutil: Any = importlib.import_module("psutil")
        self._hottest()

    def _hottest(self) -> tuple[str, Any]:
        """Return the chip's name and psutil's entry of its hottest sensor."""
        # The function does not exist on macOS and Windows, and finds nothing in most virtual machines.
        chips: dict[str, list[Any]] = getattr(self._psutil, "sensors_temperatures", dict)()
        for name in CPU_CHIPS:
            entries = [entry for entry in chips.get(name, []) if entry.current is not None]
            if entries:
                return name, max(entries, key=lambda entry: entry.current)
        raise SensorError("psutil shows no CPU temperature on this machine: give another thermal.sensor, or null")

    def read(self, time: float) -> Reading:
        """Read the CPU. Raises SensorError where it no longer shows its temperature."""
        name, entry = self._hottest()
        low, most = PLAUSIBLE_LIMITS_CELSIUS
        high, critical = (
            value if value is not None and low < value < most else None for value in (entry.high, entry.critical)
        )
        if name in THROTTLING:
            high, critical = high or critical, None
        busy = self._psutil.cpu_percent(None) / 100
        return Reading(time, float(entry.current), utilisation=busy, slowdown=high, shutdown=critical)


def auto_sensor(device: torch.device) -> Sensor:
    """Make the sensor of the device that trains: NVML's for a CUDA device, psutil's for a CPU.

    Raises SensorError, which says why, where there is none. A CUDA device without NVML has none: the CPU's temperature
    would be a guess about it.
    """
    if device.type == "cuda":
        return Nvml.of(device)
    if device.type == "cpu":
        return Cpu()
    raise SensorError(f"none is known for a device of type {device.type}")
