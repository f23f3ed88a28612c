"""Frames and the times they stand for."""

from fractions import Fraction
from typing import NamedTuple

__all__ = ["FrameClock"]


class FrameClock(NamedTuple):
    """Frames of ``frequency`` Hz: the centre of frame i is at (i + 1/2) / frequency seconds."""

    frequency: Fraction
