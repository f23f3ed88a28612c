"""The settings of the governor."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from w2v_abx.system.checks import choice, number

__all__ = ["GovernorSettings"]

MAX_LIMIT_CELSIUS = 150.0
KEY = "thermal.governor."


@dataclass(frozen=True)
class GovernorSettings:
    """The keys of ``thermal.governor`` (conf/thermal/default.yaml). Temperatures are °C, times seconds.

    ``limit``: of the core, not to be exceeded; None takes the device's own slowdown temperature minus ``margin``, or
    ``fallback_limit`` where it names none. ``memory_limit``: of the memory; None takes its own threshold minus the
    margin, and where it names none the memory is not governed. A device whose hardware slows itself down all the same
    has its limit lowered to the margin below that. The last safe duty, less what may still have heated, is held for
    less than ``hold`` if the last rise would have reached the limit by then, and not at all with a sensor that had only
    begun to answer.
    """

    limit: float | None = None
    margin: float = 5.0
    headroom: float = 1.5  # the target lies this far below the limit
    fallback_limit: float = 80.0
    memory_limit: float | None = None
    hysteresis: float = 1.0  # the device counts as cool up to so far above the target
    lookahead: float = 5.0  # react as if the present rise had gone on for so long
    lowest_duty: float = 0.05  # smallest share of time at work
    longest_rest: float = 5.0  # before the temperature is looked at again
    grow_after: float = 60.0  # of being cool before micro-batches grow
    patience: float = 300.0  # stop after resting for so long in vain
    silent_after: float = 10.0  # without a reading, a sensor counts as silent, and the last safe duty is held
    hold: float = 60.0
    when_silent: Literal["rest", "stop"] = "rest"  # after that; a rest ends after patience, and the run stops

    def __post_init__(self) -> None:
        """Raises InputError naming the key of a value out of range."""
        temperature = partial(number, above=0, below=MAX_LIMIT_CELSIUS, unit="°C")
        temperature(f"{KEY}limit", self.limit, optional="for the device's own")
        temperature(f"{KEY}memory_limit", self.memory_limit, optional="for the memory's own")
        temperature(f"{KEY}fallback_limit", self.fallback_limit)
        lowest = min(limit for limit in (self.limit, self.memory_limit, self.fallback_limit) if limit is not None)
        for key in ("margin", "headroom"):
            number(KEY + key, getattr(self, key), low=0, below=lowest, unit="°C", hint="the lowest limit is above it")
        number(f"{KEY}hysteresis", self.hysteresis, low=0, below=self.headroom, unit="°C", hint="the headroom is above")
        number(f"{KEY}lowest_duty", self.lowest_duty, above=0, high=1)
        for key in ("longest_rest", "silent_after"):
            number(KEY + key, getattr(self, key), above=0, unit="seconds")
        for key in ("lookahead", "grow_after", "patience", "hold"):
            number(KEY + key, getattr(self, key), low=0, unit="seconds")
        choice(f"{KEY}when_silent", self.when_silent, ("rest", "stop"))
