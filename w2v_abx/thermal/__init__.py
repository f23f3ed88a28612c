"""Hold the temperature of the devices that train: sensors are read, a governor decides, a controller acts.

- ``sensors/``: what can be read. A new sensor is a module there with a class that has `Sensor.read`; a config names it
  by ``_target_``, and `auto_sensor` knows which one belongs to which device.
- ``governor/``: what is decided: a pure function of time, readings, and the work done in between.
- ``work.py``: how long the device worked and rested. ``controller.py``: rests and limits micro-batches as decided, the
  same on all ranks. ``log.py``: ``thermal.csv``, and what the loggers get. ``callback.py``: all of it, in Lightning.
"""

from w2v_abx.thermal.callback import ThermalCallback, ThermalStop
from w2v_abx.thermal.governor.decision import Decision
from w2v_abx.thermal.governor.governor import Governor
from w2v_abx.thermal.governor.microbatch_limit import StepStats
from w2v_abx.thermal.governor.settings import GovernorSettings
from w2v_abx.thermal.sensors import auto_sensor
from w2v_abx.thermal.sensors.cpu import Cpu
from w2v_abx.thermal.sensors.nvml import Nvml
from w2v_abx.thermal.sensors.recorded import Recorded
from w2v_abx.thermal.sensors.sensor import Reading, Sensor, SensorError
from w2v_abx.thermal.sensors.simulated import Simulated, SimulatedShutdown
from w2v_abx.thermal.work import Throttle

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
