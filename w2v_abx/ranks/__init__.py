"""The processes that work on one job together: how they are started, find each other and end."""

from w2v_abx.ranks.following import follow
from w2v_abx.ranks.job import Job
from w2v_abx.ranks.meeting import Ranks, here
from w2v_abx.ranks.supervisor import run_ranks

__all__ = ["Job", "Ranks", "follow", "here", "run_ranks"]
