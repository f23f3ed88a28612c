"""The learning rate over the steps of a run, as a share of its peak."""

import math
from dataclasses import dataclass
from typing import Literal

from w2v_abx.system import checks

__all__ = ["Schedule", "warmup_steps"]


def warmup_steps(share: float, steps: int) -> int:
    """Count the steps that warm up: a ``share`` of them, rounded, but never all, so that the peak is reached."""
    return min(steps - 1, round(share * steps))


@dataclass(frozen=True)
class Schedule:
    """Warm up, hold, decay: the config group ``optimizer/schedule``.

    Args:
        decay: linear; cosine, half a period (Loshchilov and Hutter, 2017, without restarts); or exponential, over the
            steps that warm-up and hold leave (Park et al., 2019, SpecAugment; fairseq's ``tri_stage``).
        hold_share: of all steps at the peak.
        initial_scale: share of the peak at the first step; None: one part of the warm-up's, so that it is not lost.
        final_scale: share of the peak after the last step.

    Raises:
        InputError: values out of range.
    """

    decay: Literal["linear", "cosine", "exponential"] = "linear"
    hold_share: float = 0.0
    initial_scale: float | None = None
    final_scale: float = 0.0

    def __post_init__(self) -> None:
        key = "optimizer.schedule"
        checks.choice(f"{key}.decay", self.decay, ("linear", "cosine", "exponential"))
        checks.number(f"{key}.hold_share", self.hold_share, low=0, high=1)
        checks.number(f"{key}.initial_scale", self.initial_scale, low=0, high=1, optional="for a part of the warm-up")
        checks.number(f"{key}.final_scale", self.final_scale, low=0, high=1)
        if self.decay == "exponential":
            checks.number(f"{key}.final_scale", self.final_scale, above=0, hint="an exponential never gets to 0")

    def factor(self, step: int, warmup: int, steps: int) -> float:
        """Compute the share of the peak at ``step``, from 0, of ``steps``, the first ``warmup`` of which warm up."""
        if step < warmup:
            if self.initial_scale is None:
                return (step + 1) / (warmup + 1)
            return self.initial_scale + (1 - self.initial_scale) * step / warmup
        start = warmup + round(self.hold_share * steps)
        if step < start:
            return 1.0
        done, left = (
            ((step - start) / (steps - start), (steps - step) / (steps - start)) if step < steps else (1.0, 0.0)
        )
        if self.decay == "exponential":
            return self.final_scale**done
        if self.decay == "cosine":
            left = (1 + math.cos(math.pi * done)) / 2
        return self.final_scale + (1 - self.final_scale) * left
