"""The processes that work on one job together: how they are started, find each other and end."""

from w2v_abx.distributed.following import follow
from w2v_abx.distributed.group import Ranks, current_process
from w2v_abx.distributed.job import Job
from w2v_abx.distributed.supervisor import run_ranks

__all__ = ["Job", "Ranks", "current_process", "follow", "run_ranks"]
