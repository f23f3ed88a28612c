"""ABX discriminability of speech features: items, tasks, scores."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from w2v_abx.abx.averaging import average_error, collapse
from w2v_abx.abx.deltas import DeltaSummary
from w2v_abx.abx.distances import DISTANCES
from w2v_abx.abx.scoring import Scorer, Scores, score
from w2v_abx.abx.task import Task
from w2v_abx.features.foreign import StoredFeatures
from w2v_abx.items.items import Items

if TYPE_CHECKING:
    from w2v_abx.abx.listeners.scoring import score_triplets
    from w2v_abx.abx.listeners.triplets import ListenerTriplets
    from w2v_abx.abx.metric import AbxMetric

__all__ = [
    "DISTANCES",
    "AbxMetric",
    "DeltaSummary",
    "Items",
    "ListenerTriplets",
    "Scorer",
    "Scores",
    "StoredFeatures",
    "Task",
    "average_error",
    "collapse",
    "score",
    "score_triplets",
]


# Imported when they are asked for: scoring alone needs neither torchmetrics nor scipy, which take their time to import.
LATER = {
    "AbxMetric": "w2v_abx.abx.metric",
    "ListenerTriplets": "w2v_abx.abx.listeners.triplets",
    "score_triplets": "w2v_abx.abx.listeners.scoring",
}


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(import_module(LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
