"""ABX discriminability of speech features: items, tasks, scores."""

from typing import TYPE_CHECKING, Any

from w2v_abx.abx.averaging import average_error, collapse
from w2v_abx.abx.deltas import DeltaSummary
from w2v_abx.abx.distances import DISTANCES
from w2v_abx.abx.features import StoredFeatures
from w2v_abx.abx.items import Items
from w2v_abx.abx.scoring import Scorer, Scores, score
from w2v_abx.abx.task import Task

if TYPE_CHECKING:
    from w2v_abx.abx.metric import AbxMetric

__all__ = [
    "DISTANCES",
    "AbxMetric",
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


def __getattr__(name: str) -> Any:
    # When it is asked for: scoring alone needs no torchmetrics, which takes its time to import.
    if name == "AbxMetric":
        from w2v_abx.abx.metric import AbxMetric

        return AbxMetric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
