"""Decide which clip comes when in an epoch, on every rank: arrays of numbers, no audio."""

from w2v_abx.data.order.fixed import FixedOrder
from w2v_abx.data.order.heldout import HeldOutOrder
from w2v_abx.data.order.reading import Order, Part, Source
from w2v_abx.data.order.seconds import SecondsOrder

__all__ = ["FixedOrder", "HeldOutOrder", "Order", "Part", "SecondsOrder", "Source"]
