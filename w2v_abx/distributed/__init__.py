"""The processes that work on one job together: how they are started, find each other and end."""

from w2v_abx.distributed.group import Ranks, current_process
from w2v_abx.distributed.job import describe_job, follow
from w2v_abx.distributed.supervisor import run_ranks

__all__ = ["Ranks", "current_process", "describe_job", "follow", "run_ranks"]
