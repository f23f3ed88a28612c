"""Real sensors: NVIDIA cards through NVML, CPUs through psutil."""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from w2v_abx.thermal.sensor import Reading, Sensor, SensorError

__all__ = ["Cpu", "Nvml", "auto_sensor"]

CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")


class Nvml:
    """One NVIDIA card. Power in W, utilisation of the last sample period, and whether heat slows the card down."""

    def __init__(self, device: int | str = 0) -> None:
        """``device``: NVML's index, or a UUID (``GPU-…``). Raises SensorError without a driver or such a card."""
        self._nvml: Any = importlib.import_module("pynvml")
        try:
            self._nvml.nvmlInit()
            by_index = isinstance(device, int)
            get = self._nvml.nvmlDeviceGetHandleByIndex if by_index else self._nvml.nvmlDeviceGetHandleByUUID
            self._handle = get(device)
        except self._nvml.NVMLError as error:
            raise SensorError(f"NVML has no card {device!r}: {error}") from error
        self._slowdown = self._threshold(self._nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        self._shutdown = self._threshold(self._nvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)

    def _optional(self, call: Callable[[], Any]) -> Any:
        """What a card may not support is None; a card that fell off the bus fails at its temperature."""
        try:
            return call()
        except self._nvml.NVMLError:
            return None

    def _threshold(self, kind: int) -> float | None:
        value = self._optional(lambda: self._nvml.nvmlDeviceGetTemperatureThreshold(self._handle, kind))
        return float(value) if value else None  # some cards answer 0 for "none"

    def read(self, time: float) -> Reading:
        """The card now. Raises SensorError where the card does not tell its temperature."""
        nvml, handle = self._nvml, self._handle
        try:
            temperature = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        except nvml.NVMLError as error:
            raise SensorError(f"NVML gives no temperature: {error}") from error
        milliwatts = self._optional(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        rates = self._optional(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        reasons = self._optional(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        heat = nvml.nvmlClocksThrottleReasonSwThermalSlowdown | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
        return Reading(
            time,
            temperature,
            power=None if milliwatts is None else milliwatts / 1000,
            utilisation=None if rates is None else rates.gpu / 100,
            throttled=None if reasons is None else bool(reasons & heat),
            slowdown=self._slowdown,
            shutdown=self._shutdown,
        )


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
            if device is None:
                return Nvml()
            # By UUID, because CUDA_VISIBLE_DEVICES renumbers CUDA's devices and not NVML's.
            return Nvml(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        except SensorError:
            if device is not None:
                return None
    try:
        return Cpu() if device is None or device.type == "cpu" else None
    except SensorError:
        return None
