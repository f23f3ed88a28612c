"""Hold the temperature of the devices that train: sensor → governor → controller → callback."""

from w2v_abx.thermal.callback import ThermalCallback, ThermalStop
from w2v_abx.thermal.governor import Decision, Governor
from w2v_abx.thermal.hardware import Cpu, auto_sensor
from w2v_abx.thermal.nvml import Nvml
from w2v_abx.thermal.sensor import Reading, Recorded, Sensor, SensorError
from w2v_abx.thermal.settings import GovernorSettings
from w2v_abx.thermal.simulated import Simulated, SimulatedShutdown
from w2v_abx.thermal.stats import StepStats
from w2v_abx.thermal.throttle import Throttle

__all__ = [
    "Cpu",
    "Decision",
    "Governor",
    "GovernorSettings",
    "Nvml",
    "Reading",
    "Recorded",
    "Sensor",
    "SensorError",
    "Simulated",
    "SimulatedShutdown",
    "StepStats",
    "ThermalCallback",
    "ThermalStop",
    "Throttle",
    "auto_sensor",
]
