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
    """The keys of ``thermal.governor``, which conf/thermal/default.yaml explains. Temperatures are °C, times seconds.

    A device whose hardware slows itself down below its limit has that lowered to the margin below where it did. With a
    silent sensor the last safe duty is held for less than ``hold`` if the last rise would have reached the limit by
    then, and not at all if the sensor had only begun to answer.
    """

    limit: float | None = None
    margin: float = 5.0
    headroom: float = 1.5
    fallback_limit: float = 80.0
    memory_limit: float | None = None
    hysteresis: float = 1.0
    lookahead: float = 5.0
    lowest_duty: float = 0.05
    longest_rest: float = 5.0
    grow_after: float = 60.0
    patience: float = 300.0
    silent_after: float = 10.0
    hold: float = 60.0
    when_silent: Literal["rest", "stop"] = "rest"

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

    def core_limit(self, slowdown: float | None, threshold: float | None) -> float:
        """Return the limit of a core that slows down at ``slowdown`` (None: unknown), and was seen to at ``threshold``
        (None: it was not)."""
        limit = self.limit
        if limit is None:
            limit = self.fallback_limit if slowdown is None else slowdown - self.margin
        return limit if threshold is None else min(limit, threshold - self.margin)

    def limit_of_memory(self, slowdown: float | None) -> float | None:
        """Return the limit of a memory that slows down at ``slowdown``; None: it is not governed."""
        if self.memory_limit is None and slowdown is not None:
            return slowdown - self.margin
        return self.memory_limit
