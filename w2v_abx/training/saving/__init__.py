"""Runs that survive: checkpoints, signals, resuming exactly, and stopping before a run is lost."""

from w2v_abx.training.saving.checkpoints import Checkpoints
from w2v_abx.training.saving.divergence import Diverged, DivergenceGuard
from w2v_abx.training.saving.exact import ExactResume
from w2v_abx.training.saving.files import CheckpointFiles
from w2v_abx.training.saving.metrics import MetricsCsv
from w2v_abx.training.saving.phases import Phases

__all__ = [
    "CheckpointFiles",
    "Checkpoints",
    "Diverged",
    "DivergenceGuard",
    "ExactResume",
    "MetricsCsv",
    "Phases",
]
