"""Which clip comes when in an epoch, for every rank and worker: numbers alone, no audio."""

from w2v_abx.order.lane import Lane
from w2v_abx.order.lengths import SecondsOrder, padding
from w2v_abx.order.order import Mixed, Order
from w2v_abx.order.sequence import Sequence, Stretch

__all__ = ["Lane", "Mixed", "Order", "SecondsOrder", "Sequence", "Stretch", "padding"]
