"""What a device says of its temperature: one module per sensor, and a sampler that reads them regularly."""

import torch

from w2v_abx.thermal.sensors.cpu import Cpu
from w2v_abx.thermal.sensors.nvml import Nvml
from w2v_abx.thermal.sensors.sensor import Sensor, SensorError

__all__ = ["auto_sensor"]


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
