"""Which clip comes when in an epoch, for every rank and worker: numbers alone, no audio."""

from w2v_abx.data.order.lane import Lane
from w2v_abx.data.order.lengths import SecondsOrder, padding
from w2v_abx.data.order.order import Mixed, Order
from w2v_abx.data.order.sequence import Sequence, Stretch

__all__ = ["Lane", "Mixed", "Order", "SecondsOrder", "Sequence", "Stretch", "padding"]
