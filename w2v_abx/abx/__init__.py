"""ABX discriminability of speech features: items, tasks, scores."""

from w2v_abx.abx.averaging import average_error, collapse
from w2v_abx.abx.deltas import DeltaSummary
from w2v_abx.abx.distances import DISTANCES
from w2v_abx.abx.features import StoredFeatures
from w2v_abx.abx.items import Items
from w2v_abx.abx.scoring import Scorer, Scores, score
from w2v_abx.abx.task import Task

__all__ = [
    "DISTANCES",
    "DeltaSummary",
    "Items",
    "Scorer",
    "Scores",
    "StoredFeatures",
    "Task",
    "average_error",
    "collapse",
    "score",
]
