"""The processes of one job: which of them this is, and how they synchronise before they train together."""

import atexit
import functools
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from w2v_abx.config import explain
from w2v_abx.errors import InputError

if TYPE_CHECKING:
    import torch.distributed as dist

__all__ = ["Ranks", "current_process"]

T = TypeVar("T")

START_TIMEOUT = timedelta(minutes=30)  # for the processes of a job to start, on busy nodes
POLL_INTERVAL = 0.05  # s between looks at the store


class Ranks:
    """Process number ``rank`` of the ``size`` that work on one job; alone unless there is a ``store`` they share."""

    def __init__(self, rank: int = 0, size: int = 1, store: "dist.Store | None" = None) -> None:
        self.rank, self.size, self.store = rank, size, store
        self._shared = 0
        self._failed = False

    def seed(self, seed: int) -> int:
        """Make a seed of this rank's own; the first rank has the given one."""
        import numpy as np

        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]) if self.rank else seed

    def first(self, work: Callable[[], T]) -> T:
        """Return in all ranks what ``work`` returns (a JSON value): the first one does it, and the others wait for it.

        Unlike at a barrier of ``torch.distributed`` they wait as long as it takes. Where it fails, all ranks raise:
        the first one its error, the others an InputError that quotes it.
        """
        self._shared += 1
        if self.store is None:
            return work()
        key = f"shared/{self._shared}"
        if self.rank:
            answer: dict[str, Any] = json.loads(self._read(key))
            if "error" in answer:
                raise InputError(answer["error"])
            value: T = answer["value"]
            return value
        try:
            value = work()
            self.store.set(key, json.dumps({"value": value}))
        except BaseException as error:
            self.store.set(key, json.dumps({"error": str(explain(error)) or type(error).__name__}))
            raise
        return value

    def in_turn(self, make: Callable[[], T]) -> T:
        """Return in each rank what ``make`` makes: in the first one first, whose files the others then find."""
        made: list[T] = []
        self.first(lambda: made.append(make()))
        return made[0] if made else make()

    # A job and its failures

    def give_job(self, text: str) -> None:
        """Publish, from the first rank, the job of ranks that were started without one; empty: there is none."""
        assert self.store is not None
        self.store.set("job", text)

    def take_job(self) -> str:
        """Wait for the job that the first rank publishes."""
        return self._read("job")

    def report(self, message: str, trace: str | None) -> bool:
        """Report why this rank has failed. Returns whether a process that started it will print that."""
        assert self.store is not None
        self._failed = True
        failure = {"message": message, "trace": trace, "time": time.time()}
        try:
            self.store.set(f"failed/{self.rank}", json.dumps(failure))
            return self.store.check(["supervisor"])
        except RuntimeError:  # DistError: the first rank, whose store it was, has ended, and has said why
            return False

    def ends(self) -> None:
        """Ask for a `LONG_GRACE`: others have failed, and the first rank still has results to write."""
        if self.store is not None and self.rank == 0:
            with suppress(RuntimeError):  # DistError
                self.store.set("ends", "")

    def leave(self) -> None:
        """Destroy the process groups of ``torch.distributed``, before the interpreter ends.

        Threads of gloo may else let go of their last tensors while there is no interpreter any more, which aborts the
        process (SIGABRT) though its work is done: https://github.com/pytorch/pytorch/pull/179291
        """
        import torch.distributed as dist

        # NCCL might wait for ranks that have gone.
        if dist.is_initialized() and not (self._failed and dist.get_backend() == "nccl"):
            dist.destroy_process_group()

    def _read(self, key: str) -> str:
        assert self.store is not None
        try:
            while not self.store.check([key]):  # not `wait`, which no signal interrupts
                time.sleep(POLL_INTERVAL)
            return self.store.get(key).decode()
        except RuntimeError as error:  # DistError
            raise InputError(f"rank {self.rank} of {self.size} ends, since the first rank has ended") from error


@functools.cache
def current_process() -> Ranks:
    """Say which rank this process is, of those that srun, torchrun or `run_ranks` started.

    The ranks find each other at the first call.

    Raises InputError where these started several processes, but not in a way that gives each its rank.
    """
    place = _place()
    if place is None:
        return Ranks()
    import torch.distributed as dist  # which no process needs that is alone, such as one that only shows --help

    rank, size = place
    try:
        store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=START_TIMEOUT))
    except (dist.DistError, ValueError) as error:
        raise InputError(
            f"rank {rank} of {size} has not found the others at MASTER_ADDR={os.environ.get('MASTER_ADDR')} "
            f"MASTER_PORT={os.environ.get('MASTER_PORT')} ({str(error).splitlines()[0]}); check that all were started"
        ) from error
    ranks = Ranks(rank, size, store)
    atexit.register(ranks.leave)
    return ranks


def _place() -> tuple[int, int] | None:
    """Rank and number of the processes that were started together, where this is one of several."""
    environment = os.environ
    if {"RANK", "LOCAL_RANK"} <= environment.keys() and int(environment.get("WORLD_SIZE", "1")) > 1:
        return int(environment["RANK"]), int(environment["WORLD_SIZE"])
    # Set by srun, and not in a batch script that merely was granted several tasks.
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        from lightning.fabric.plugins.environments import SLURMEnvironment  # seconds, which nobody else should wait

        if not SLURMEnvironment.detect():  # by the job's name, which salloc sets where nobody does
            if "SLURM_PTY_PORT" in environment:  # a shell of srun --pty, which runs in the first task alone
                return None
            raise InputError(
                f"srun started {environment['SLURM_STEP_NUM_TASKS']} tasks of a job that is called "
                f"{environment.get('SLURM_JOB_NAME')!r}, which Lightning takes for a shell: give srun a --job-name"
            )
        try:
            slurm = SLURMEnvironment(auto_requeue=False)
            os.environ |= {"MASTER_ADDR": slurm.main_address, "MASTER_PORT": str(slurm.main_port)}
            return slurm.global_rank(), slurm.world_size()
        except (RuntimeError, KeyError) as error:
            raise InputError(f"srun started several tasks in a way that cannot be used ({error})") from error
    return None
