"""`w2v-abx` in processes that are killed. `python tests/support/killed_command.py` reads orders, a line of JSON each.

It imports everything once and forks for each order: a process is then there at once, and it is a process like any other
to whoever kills it. Nothing has a thread, or has used polars, before the fork.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch

from w2v_abx import __main__
from w2v_abx.commands import train  # noqa: F401 what takes seconds
from w2v_abx.shards import index


def begin(order: dict[str, Any]) -> NoReturn:
    """Be the command."""
    os.setpgrp()
    index.IMPORTING_PROCESS = os.getpid()
    os.chdir(order["folder"])
    log = os.open(Path(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["w2v-abx", *order["arguments"]]
    status = 1
    try:
        __main__.main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            begin(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
