"""The processes of one job: which of them this is, and how they synchronise before they train together."""

import atexit
import functools
import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from w2v_abx.config import explain
from w2v_abx.distributed.meeting import (
    FOLDER,
    MIN_TOKEN_CHARACTERS,
    TOKEN,
    Meeting,
    MeetingFolder,
    SignedStore,
    launcher_store,
    loopback,
    private_folder,
)
from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write

if TYPE_CHECKING:
    import torch

__all__ = ["Ranks", "current_process"]

T = TypeVar("T")

START_TIMEOUT = timedelta(minutes=30)  # for the processes of a job to start, on busy nodes
LEAVE_SECONDS = 10.0  # that the first rank waits for the others at its end
POLL_INTERVAL = 0.05  # s between looks for a message

_stores: list[Any] = []  # of this process, as long as it lives


class Ranks:
    """Process number ``rank`` of the ``size`` that work on one job; alone unless there is a ``meeting`` of theirs."""

    def __init__(self, rank: int = 0, size: int = 1, meeting: Meeting | None = None) -> None:
        self.rank, self.size, self.meeting = rank, size, meeting
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
        if self.meeting is None:
            return work()
        key = f"shared/{self._shared}"
        if self.rank:
            answer: dict[str, Any] = json.loads(self._read(key))
            if "error" in answer:
                raise InputError(answer["error"], answer["exit_status"])
            value: T = answer["value"]
            return value
        try:
            value = work()
            self.meeting.set(key, json.dumps({"value": value}))
        except BaseException as error:
            known = explain(error)
            answer = {"error": str(known) or type(error).__name__, "exit_status": known.exit_status}
            self.meeting.set(key, json.dumps(answer))
            raise
        return value

    def in_turn(self, make: Callable[[], T]) -> T:
        """Return in each rank what ``make`` makes: in the first one first, whose files the others then find."""
        made: list[T] = []
        self.first(lambda: made.append(make()))
        return made[0] if made else make()

    def connect(self, backend: str, device: "torch.device", timeout: timedelta) -> None:
        """Make the process group of ``torch.distributed``, unless there is one; a collective."""
        import torch.distributed as dist

        if dist.is_initialized():
            return
        assert self.meeting is not None
        self.meeting.set(f"here/{self.rank}", "")
        for rank in range(self.size):  # PyTorch waits, too, but no signal interrupts it
            self._read(f"here/{rank}")
        own = None if device.type == "cpu" else device
        dist.init_process_group(
            backend,
            store=self.meeting.store(),
            rank=self.rank,
            world_size=self.size,
            timeout=timeout,
            device_id=own,
        )

    # A job and its failures

    def give_job(self, text: str, folder: Path) -> None:
        """Publish, from the first rank, the job of ranks that were started without one; empty: there is none.

        It goes by a file, in ``folder`` where the ranks are on several machines, which then have to share that.
        """
        assert self.meeting is not None
        publish_job(self.meeting, text, folder)

    def take_job(self) -> str:
        """Wait for the job that the first rank publishes."""
        assert self.meeting is not None
        path = self._read("job")
        try:
            text = Path(path).read_text(encoding="utf-8") if path else ""
        except OSError as error:
            raise InputError(
                f"rank {self.rank} of {self.size} cannot read its job ({path}: {error.strerror}): the machines of one "
                f"job share the run's folder"
            ) from error
        if isinstance(self.meeting, MeetingFolder):
            return text
        self.meeting.set(f"taken/{self.rank}", "")
        if path and all(self.meeting.get(f"taken/{rank}") is not None for rank in range(1, self.size)):
            Path(path).unlink(missing_ok=True)  # as soon as nobody needs it: it may hold passwords
        return text

    def report(self, message: str, trace: str | None) -> bool:
        """Report why this rank has failed. Returns whether a process that started it will print that."""
        assert self.meeting is not None
        self._failed = True
        failure = {"message": message, "trace": trace, "time": time.time()}
        try:
            self.meeting.set(f"failed/{self.rank}", json.dumps(failure))
            return self.meeting.get("supervisor") is not None
        except (ConnectionError, InputError):  # whose meeting it was has ended, and has said why
            return False

    def ends(self) -> None:
        """Ask for a `LONG_GRACE`: others have failed, and the first rank still has results to write."""
        if self.meeting is not None and self.rank == 0:
            with suppress(ConnectionError):
                self.meeting.set("ends", "")

    def leave(self) -> None:
        """Destroy the process groups of ``torch.distributed``, before the interpreter ends.

        Threads of gloo may else let go of their last tensors while there is no interpreter any more, which aborts the
        process (SIGABRT) though its work is done: https://github.com/pytorch/pytorch/pull/179291
        """
        import torch.distributed as dist

        # NCCL might wait for ranks that have gone.
        if dist.is_initialized() and not (self._failed and dist.get_backend() == "nccl"):
            dist.destroy_process_group()
        with suppress(ConnectionError, InputError):
            self._wait_for_others()

    def _wait_for_others(self) -> None:
        """Let the others read what the first rank has said, before it goes and its meeting with it."""
        if self.meeting is None:
            return
        self.meeting.set(f"left/{self.rank}", "")
        if self.rank or self.meeting.get("supervisor") is not None:
            return
        deadline = time.monotonic() + LEAVE_SECONDS
        others = [f"left/{rank}" for rank in range(1, self.size)]
        while time.monotonic() < deadline and any(self.meeting.get(key) is None for key in others):
            time.sleep(POLL_INTERVAL)

    def _read(self, key: str) -> str:
        assert self.meeting is not None
        try:
            while (text := self.meeting.get(key)) is None:
                time.sleep(POLL_INTERVAL)
            return text
        except ConnectionError as error:
            raise InputError(f"rank {self.rank} of {self.size} ends, since the first rank has ended") from error


def publish_job(meeting: Meeting, text: str, folder: Path) -> None:
    """Write a job into a file and tell the ranks of a ``meeting`` where it is; empty: there is none."""
    path = (meeting.folder if isinstance(meeting, MeetingFolder) else folder) / ".job.json"
    if text:
        write(path, lambda fresh: fresh.write_text(text, encoding="utf-8"), mode=0o600)
    meeting.set("job", str(path.absolute()) if text else "")


@functools.cache
def current_process() -> Ranks:
    """Say which rank this process is, of those that srun, torchrun or `run_ranks` started.

    The ranks find each other at the first call.

    Raises InputError where these started several processes, but not in a way that gives each its rank.
    """
    place = _place()
    if place is None:
        return Ranks()
    rank, size = place
    one_machine = FOLDER in os.environ or _is_one_machine(size)
    if one_machine:  # what gloo and NCCL listen on
        os.environ |= dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), loopback())
    if FOLDER in os.environ:
        meeting: Meeting = MeetingFolder(Path(os.environ[FOLDER]))
    else:
        meeting = _meeting_of_launcher(rank, size, one_machine=one_machine)
    ranks = Ranks(rank, size, meeting)
    atexit.register(ranks.leave)
    return ranks


def _meeting_of_launcher(rank: int, size: int, *, one_machine: bool) -> Meeting:
    token = os.environ.get(TOKEN, "")
    if not one_machine and len(token) < MIN_TOKEN_CHARACTERS:
        raise InputError(
            f"ranks on several machines need a token that nobody else knows: export {TOKEN}=$(openssl rand -hex 16) "
            f"before srun, or the same value before each torchrun"
        )
    try:
        store = launcher_store(rank, size, START_TIMEOUT, one_machine=one_machine)
        if not one_machine:
            return SignedStore(store, token)
        if rank == 0:
            stack = ExitStack()
            atexit.register(stack.close)
            folder = stack.enter_context(private_folder())
            store.set("w2v-abx/folder", str(folder))
            _stores.append(store)  # which the others ask
            return MeetingFolder(folder)
        while not store.check(["w2v-abx/folder"]):  # not `wait`, which no signal interrupts
            time.sleep(POLL_INTERVAL)
        return MeetingFolder(Path(store.get("w2v-abx/folder").decode()))
    except (RuntimeError, ValueError, OSError) as error:  # DistError among them
        raise InputError(
            f"rank {rank} of {size} has not found the others at MASTER_ADDR={os.environ.get('MASTER_ADDR')} "
            f"MASTER_PORT={os.environ.get('MASTER_PORT')} ({str(error).splitlines()[0]}); check that all were started"
        ) from error


def _is_one_machine(size: int) -> bool:
    """Whether all ranks that torchrun or srun has started are on this machine, as far as these say."""
    here = os.environ.get("LOCAL_WORLD_SIZE")
    return here == str(size) if here is not None else os.environ.get("SLURM_STEP_NUM_NODES") == "1"


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
