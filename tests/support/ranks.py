"""Several processes, each of them a rank: spawned ones import this module, and so it holds no test."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

PRELOADED = ["torch", "lightning", "transformers"]  # seconds each, in the server that ranks are forked from; no threads


def run_ranks(work: Callable[[Path], None], size: int, folder: Path) -> None:
    """Run ``work(folder)`` in ``size`` processes, each of them a rank that Lightning finds in its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.set_forkserver_preload(PRELOADED)
    torch.multiprocessing.start_processes(
        _enter, (work, size, port, folder, dict(os.environ)), nprocs=size, start_method="forkserver"
    )


def ranks_of_test() -> int:
    """How many there are; 1 in a process that is none."""
    return int(os.environ.get("RANKS_OF_TEST", "1"))  # Lightning takes WORLD_SIZE away after its first loop


def _enter(
    rank: int, work: Callable[[Path], None], size: int, port: int, folder: Path, environment: Mapping[str, str]
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        **environment,  # the server's is older
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(size),
        "RANKS_OF_TEST": str(size),
    }
    work(folder)
