"""Shards in, batches out, in an order that is known in advance."""

from w2v_abx.data.batch import Batch, Target
from w2v_abx.data.module import ShardDataModule

__all__ = ["Batch", "ShardDataModule", "Target"]
