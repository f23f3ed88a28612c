"""Checkpoints, resuming exactly, and what a run logs."""

from w2v_abx.training.saving.checkpoints import Checkpoints
from w2v_abx.training.saving.divergence import DivergenceGuard
from w2v_abx.training.saving.exact import ExactResume
from w2v_abx.training.saving.files import CheckpointFiles
from w2v_abx.training.saving.metrics import MetricsCsv

__all__ = [
    "CheckpointFiles",
    "Checkpoints",
    "DivergenceGuard",
    "ExactResume",
    "MetricsCsv",
]
