"""Two ranks that begin, exchange something and end, time and again.

`python tests/support/ending_ranks.py TIMES [plain]` prints how many ended with which status. It imports everything once
and forks ranks: each takes part as one of `run_ranks`, and ends as one. ``plain``: they are left to the interpreter's
own end, which gloo's threads may abort.
"""

import json
import os
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import torch

from w2v_abx.distributed import current_process
from w2v_abx.distributed.collectives import gather, sum_over_ranks
from w2v_abx.distributed.meeting import FOLDER, private_folder
from w2v_abx.system import ending

SIZE = 2


def work() -> None:
    """Exchange something with the other rank, over a group that lasts as long as the process."""
    current_process().connect("gloo", torch.device("cpu"), timedelta(minutes=2))
    assert sum_over_ranks(1.0) == SIZE
    assert sum_over_ranks(torch.ones(4)).tolist() == [SIZE] * 4
    assert gather(current_process().rank) == [*range(SIZE)]


def begin(rank: int, folder: Path) -> None:
    os.environ |= {FOLDER: str(folder), "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(SIZE)}
    if "plain" in sys.argv:
        work()
    else:
        ending.run(work)


def main() -> None:
    statuses: Counter[int] = Counter()
    for _ in range(int(sys.argv[1])):
        with private_folder() as folder:
            (folder / "supervisor").touch()
            ranks = []
            for rank in range(SIZE):
                process = os.fork()
                if process == 0:
                    return begin(rank, folder)
                ranks.append(process)
            statuses.update(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in ranks)
    print(json.dumps(statuses))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
