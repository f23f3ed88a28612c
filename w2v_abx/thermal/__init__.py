"""Training that a hot device survives: sensor → governor → keeper → callback."""

from w2v_abx.thermal.callback import ThermalCallback, ThermalStop
from w2v_abx.thermal.governor import Decision, Governor, Ran
from w2v_abx.thermal.hardware import Cpu, auto_sensor
from w2v_abx.thermal.nvml import Nvml
from w2v_abx.thermal.sensor import Reading, Recorded, Sensor, SensorError
from w2v_abx.thermal.simulated import Simulated, SimulatedShutdown

__all__ = [
    "Cpu",
    "Decision",
    "Governor",
    "Nvml",
    "Ran",
    "Reading",
    "Recorded",
    "Sensor",
    "SensorError",
    "Simulated",
    "SimulatedShutdown",
    "ThermalCallback",
    "ThermalStop",
    "auto_sensor",
]
