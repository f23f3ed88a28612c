"""Callbacks that change how a model is fine-tuned."""

from w2v_abx.training.callbacks.ema import Ema
from w2v_abx.training.callbacks.head_first import HeadFirst
from w2v_abx.training.callbacks.l2sp import L2SP

__all__ = ["L2SP", "Ema", "HeadFirst"]
