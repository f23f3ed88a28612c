"""Decide how hard a device may work: a pure function of time, readings, and the work done in between."""

from w2v_abx.thermal.governor.governor import Decision, Governor, strictest
from w2v_abx.thermal.governor.heat import Heat
from w2v_abx.thermal.governor.microbatch_limit import StepStats
from w2v_abx.thermal.governor.settings import GovernorSettings
from w2v_abx.thermal.governor.state import MEMORY, hottest

__all__ = ["MEMORY", "Decision", "Governor", "GovernorSettings", "Heat", "StepStats", "hottest", "strictest"]
