"""How the learning rate goes over the steps of a run, as a share of its peak."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from w2v_abx.errors import InputError

__all__ = ["Constant", "Cosine", "Linear", "Schedule", "TriStage", "warmup_steps"]


def warmup_steps(share: float, steps: int) -> int:
    """So many of ``steps`` warm up: a ``share``, rounded, but never all of them, so that the peak is reached."""
    return min(steps - 1, round(share * steps))


class Schedule(ABC):
    """A warm-up, then what a subclass says."""

    hold_share: float = 0.0  # of all steps, beside the warm-up, that the schedule itself asks for

    def factor(self, step: int, warmup: int, steps: int) -> float:
        """The share of the peak at ``step``, counted from 0, of ``steps``, the first ``warmup`` of which warm up."""
        return self.rise(step, warmup) if step < warmup else self.after(step, warmup, steps)

    def rise(self, step: int, warmup: int) -> float:
        """A straight line that is above zero at the first step, or that would be lost."""
        return (step + 1) / (warmup + 1)

    @abstractmethod
    def after(self, step: int, warmup: int, steps: int) -> float:
        """The share of the peak after the warm-up."""


class Linear(Schedule):
    """A straight line to zero after the last step."""

    def after(self, step: int, warmup: int, steps: int) -> float:
        return max(0.0, (steps - step) / (steps - warmup))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a period of a cosine (Loshchilov and Hutter, 2017, without restarts).

    Args:
        final_scale: share of the peak after the last step.
    """

    final_scale: float = 0.0

    def __post_init__(self) -> None:
        _check("final_scale", self.final_scale)

    def after(self, step: int, warmup: int, steps: int) -> float:
        done = min(1.0, (step - warmup) / (steps - warmup))
        return self.final_scale + (1 - self.final_scale) * (1 + math.cos(math.pi * done)) / 2


class Constant(Schedule):
    """The peak to the end."""

    def after(self, step: int, warmup: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class TriStage(Schedule):
    """Warm up, hold, decay exponentially (Park et al., 2019, SpecAugment; fairseq's ``tri_stage``).

    The decay has the steps that warm-up and hold leave.

    Args:
        hold_share: of all steps at the peak.
        initial_scale: share of the peak at the first step.
        final_scale: share of the peak after the last step.
    """

    hold_share: float = 0.4
    initial_scale: float = 0.01
    final_scale: float = 0.05

    def __post_init__(self) -> None:
        _check("hold_share", self.hold_share)
        _check("initial_scale", self.initial_scale)
        if not 0 < self.final_scale <= 1:
            raise InputError(
                f"optimizer.schedule.final_scale={self.final_scale} must lie in (0, 1]: an exponential never gets to 0"
            )

    def rise(self, step: int, warmup: int) -> float:
        return self.initial_scale + (1 - self.initial_scale) * step / warmup

    def after(self, step: int, warmup: int, steps: int) -> float:
        start = warmup + round(self.hold_share * steps)
        if step < start:
            return 1.0
        done = min(1.0, (step - start) / (steps - start)) if steps > start else 1.0
        return self.final_scale**done


def _check(key: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"optimizer.schedule.{key}={share} must lie in [0, 1]")
