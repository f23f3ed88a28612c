"""What ranks do in tests: they import this module, which holds no test, as they would that of a command."""

import contextlib
import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from w2v_abx.distributed import current_process, run_ranks
from w2v_abx.errors import InputError, NotWritten


def job(folder: Path, task: str) -> str:
    hydra = {"runtime": {"output_dir": str(folder)}, "job": {"name": task}, "job_logging": {"version": 1, "root": None}}
    return json.dumps(
        {
            "module": __name__,
            "command": "tasks",
            "config": f"{{task: {task}}}",
            "hydra": OmegaConf.to_yaml({**hydra, "verbose": False}),
            "arguments": ["w2v-abx train", "a=b"],
        }
    )


class Tasks:
    """Stands for a command: ``work`` is what a rank does."""

    def work(self, config: DictConfig) -> None:
        getattr(self, config.task)(Path(HydraConfig.get().runtime.output_dir))

    def meet(self, folder: Path) -> None:
        """All that ranks have in common, written down."""
        ranks = current_process()
        made = (folder / "made").exists
        found: dict[str, Any] = {"place": [ranks.rank, ranks.size], "arguments": sys.argv}
        found["told"] = ranks.first(lambda: {"rank": ranks.rank})
        found["made"] = ranks.in_turn(lambda: made() or (folder / "made").touch())
        with contextlib.suppress(InputError, ValueError):
            ranks.first(lambda: fail("no clips"))
        connect()
        total = torch.tensor([10.0**ranks.rank])
        dist.all_reduce(total)
        found["sum"] = total.item()
        found["listening"] = listening()
        (folder / f"{ranks.rank}.yaml").write_text(OmegaConf.to_yaml(found))

    def refuse(self, folder: Path) -> None:
        if current_process().rank:
            raise InputError("rain.wav cannot be read")
        time.sleep(300)

    def fill_the_disk(self, folder: Path) -> None:
        """The first rank fails; the other hears of it."""

        def fail() -> None:
            raise NotWritten("model.bin cannot be written")

        current_process().first(fail)

    def break_down(self, folder: Path) -> None:
        connect()
        if current_process().rank:
            raise KeyError("rain")
        dist.barrier()  # which fails, since the other has gone

    def fail_together(self, folder: Path) -> None:
        """The first rank, meanwhile, uploads what it has logged."""
        current_process().first(lambda: None)  # both have started
        try:
            raise InputError("the loss is not finite")
        finally:
            current_process().ends()
            if not current_process().rank:
                time.sleep(4)
                (folder / "uploaded").touch()

    def die(self, folder: Path) -> None:
        if current_process().rank:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(300)

    def wait(self, folder: Path) -> None:
        """Until two signals have come."""
        got: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
        signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
        (folder / f"pid{current_process().rank}").write_text(str(os.getpid()))
        while len(got) < 2:
            if got:
                (folder / f"first{current_process().rank}").touch()
            time.sleep(0.01)
        (folder / f"got{current_process().rank}").write_text(str(got))
        sys.exit(0 if current_process().rank else 75)


def connect() -> None:
    current_process().connect("gloo", torch.device("cpu"), timedelta(minutes=1))


def listening() -> list[str]:
    """The addresses at which this process accepts connections."""
    return sorted(one.laddr.ip for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN)


def launched(folder: Path) -> None:
    """A rank as a launcher starts it: what it hears of the first one's, and at which addresses it listens."""
    try:
        ranks = current_process()
        if ranks.rank == 0:
            ranks.give_job("the job", folder)
        found: dict[str, Any] = {"job": ranks.take_job() if ranks.rank else "the job", "told": ranks.first(lambda: 42)}
        connect()
        total = torch.ones(1)
        dist.all_reduce(total)
        found |= {"sum": total.item(), "listening": listening()}
        ranks.first(lambda: None)  # nobody leaves before all have looked
    except InputError as error:
        found = {"error": str(error)}
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))


def fail(reason: str) -> None:
    raise ValueError(reason)


COMMANDS = {"tasks": Tasks()}


def supervise(folder: Path) -> None:
    """A process that runs ranks until it gets a signal, and that handled the signal before."""
    signal.signal(signal.SIGUSR1, lambda number, frame: (folder / "queued").touch())
    signal.signal(signal.SIGTERM, lambda number, frame: (folder / "bypassed").touch())
    run_ranks(job(folder, "wait"), 2)
