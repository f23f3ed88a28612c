"""The CPU's sensor, through psutil; and which sensor belongs to the device that trains."""

import importlib
from typing import Any

import torch

from w2v_abx.thermal.nvml import Nvml
from w2v_abx.thermal.sensor import Reading, Sensor, SensorError

__all__ = ["Cpu", "auto_sensor"]

CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")


class Cpu:
    """The hottest sensor of the CPU, as psutil sees it (Linux and FreeBSD). Power is not known."""

    def __init__(self) -> None:
        """Raises SensorError where the machine shows no CPU temperature."""
        self._psutil: Any = importlib.import_module("psutil")
        self._hottest()

    def _hottest(self) -> Any:
        # The function does not exist on macOS and Windows, and finds nothing in most virtual machines.
        chips: dict[str, list[Any]] = getattr(self._psutil, "sensors_temperatures", dict)()
        for name in CPU_CHIPS:
            entries = [entry for entry in chips.get(name, []) if entry.current is not None]
            if entries:
                return max(entries, key=lambda entry: entry.current)
        raise SensorError("psutil shows no CPU temperature on this machine")

    def read(self, time: float) -> Reading:
        """The CPU now. Raises SensorError where it no longer tells its temperature."""
        entry = self._hottest()
        # Drivers fill unknown limits with 0 or with values like 65261.8.
        high, critical = (
            value if value is not None and 40 < value < 130 else None for value in (entry.high, entry.critical)
        )
        busy = self._psutil.cpu_percent(None) / 100
        return Reading(time, float(entry.current), utilisation=busy, slowdown=high, shutdown=critical)


def auto_sensor(device: torch.device | None = None) -> Sensor | None:
    """The sensor of the device that trains: NVML's for a CUDA device (None: whichever there is), else the CPU's.

    None where there is no sensor. A CUDA device without NVML has none: the CPU's temperature would be a guess about it.
    """
    if device is None or device.type == "cuda":
        try:
            return Nvml() if device is None else Nvml.of(device)
        except SensorError:
            if device is not None:
                return None
    try:
        return Cpu() if device is None or device.type == "cpu" else None
    except SensorError:
        return None
