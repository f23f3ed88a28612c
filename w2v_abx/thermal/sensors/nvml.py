"""Read NVIDIA cards through NVML (the module ``pynvml`` of the package nvidia-ml-py)."""

from collections.abc import Callable
from typing import Any

import pynvml
import torch

from w2v_abx.thermal.sensors.sensor import HARDWARE_HEAT, SOFTWARE_HEAT, Reading, SensorError

__all__ = ["Nvml"]

REASONS = {  # bits of NVML's clocks event (formerly throttle) reasons
    0x1: "idle",
    0x2: "clocks set by the user",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: SOFTWARE_HEAT,
    0x40: HARDWARE_HEAT,
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}


class Nvml:
    """One NVIDIA card: temperatures of core and memory, power, utilisation, and why it is slowed down.

    An instance of a card divided by MIG shares its temperatures and power with the others, so what is read is the card.
    Cards that name no limits in °C (Ada and later may not) tell how many °C are left until their slowdown; the limits
    are then worked out from that at each reading.
    """

    def __init__(self, device: int | str = 0) -> None:
        """``device``: NVML's index, a UUID (``GPU-…`` or ``MIG-…``), or a PCI address (``00000000:01:00.0``). Raises
        SensorError without a driver or such a card, or where the card does not tell its temperature."""
        try:
            pynvml.nvmlInit()
            self._handle = _card(device)
        except pynvml.NVMLError as error:
            raise SensorError(f"NVML has no card {device!r} ({error}): give another thermal.sensor, or null") from error
        self._slowdown = self._threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        self._shutdown = self._threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)
        self._memory_slowdown = self._threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX)
        self.read(0.0)

    @classmethod
    def of(cls, device: torch.device) -> "Nvml":
        """Make the sensor of a CUDA device. Raises SensorError.

        Its card is found by its UUID (under MIG that of an instance), or else by its PCI address, for
        ``CUDA_VISIBLE_DEVICES`` renumbers CUDA's devices and not NVML's."""
        properties: Any = torch.cuda.get_device_properties(device)
        address = f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
        failures = []
        for name in (f"GPU-{properties.uuid}", f"MIG-{properties.uuid}", address):
            try:
                return cls(name)
            except SensorError as error:
                failures.append(error)
        raise failures[0]

    def read(self, time: float) -> Reading:
        """Read the card. Raises SensorError where the card does not tell its temperature."""
        try:
            temperature = float(pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU))
        except pynvml.NVMLError as error:
            raise SensorError(f"NVML gives no temperature: {error}") from error
        milliwatts = _optional(pynvml.nvmlDeviceGetPowerUsage, self._handle)
        rates = _optional(pynvml.nvmlDeviceGetUtilizationRates, self._handle)
        reasons = _optional(pynvml.nvmlDeviceGetCurrentClocksEventReasons, self._handle)
        if reasons is None:  # an older driver knows them by their former name
            reasons = _optional(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, self._handle)
        slowdown, shutdown = self._limits(temperature)
        return Reading(
            time,
            temperature,
            power=None if milliwatts is None else milliwatts / 1000,
            utilisation=None if rates is None else rates.gpu / 100,
            throttle=None if reasons is None else tuple(word for bit, word in REASONS.items() if reasons & bit),
            slowdown=slowdown,
            shutdown=shutdown,
            memory=self._field(pynvml.NVML_FI_DEV_MEMORY_TEMP) or None,  # 0: not measured
            memory_slowdown=self._memory_slowdown,
        )

    def _threshold(self, kind: int) -> float | None:
        value = _optional(pynvml.nvmlDeviceGetTemperatureThreshold, self._handle, kind)
        return float(value) if value else None  # some cards answer 0 for "none"

    def _field(self, field: int) -> float | None:
        """Read one of NVML's fields that hold degrees."""
        values = _optional(pynvml.nvmlDeviceGetFieldValues, self._handle, [field])
        return None if values is None or values[0].nvmlReturn != 0 else float(values[0].value.siVal)

    def _limits(self, temperature: float) -> tuple[float | None, float | None]:
        """Return the temperatures of slowdown and of shutdown."""
        if self._slowdown is not None:
            return self._slowdown, self._shutdown
        left = _optional(pynvml.nvmlDeviceGetMarginTemperature, self._handle)
        if left is None:
            return None, self._shutdown
        # °C below the temperature at which the driver begins to lower clocks; the hardware's own come later, below 0.
        slowdown = self._field(pynvml.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT) or 0.0
        shutdown = self._field(pynvml.NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT)
        return temperature + left - slowdown, None if shutdown is None else temperature + left - shutdown


def _card(device: int | str) -> Any:
    """Return NVML's handle of a card, also where an instance of it is named."""
    if isinstance(device, int):
        return pynvml.nvmlDeviceGetHandleByIndex(device)
    if not device.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByPciBusId(device)
    handle = pynvml.nvmlDeviceGetHandleByUUID(device)
    divided = _optional(pynvml.nvmlDeviceIsMigDeviceHandle, handle)
    return pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle) if divided else handle


def _optional(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call NVML; None for what a card or its driver does not support. (A lost card fails at its temperature.)"""
    try:
        return call(*arguments)
    except pynvml.NVMLError:
        return None
