"""Callbacks that change how a model is fine-tuned."""

from w2v_abx.finetuning.ema import Ema
from w2v_abx.finetuning.head_first import HeadFirst
from w2v_abx.finetuning.l2sp import L2SP

__all__ = ["L2SP", "Ema", "HeadFirst"]
