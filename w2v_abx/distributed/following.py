"""What a rank does that did not itself read the command line."""

import importlib
import signal
import sys
import traceback

import hydra.errors
import omegaconf.errors

from w2v_abx.config import explain
from w2v_abx.distributed.group import Ranks, current_process
from w2v_abx.distributed.job import Job
from w2v_abx.errors import InputError

__all__ = ["follow"]


def follow() -> None:
    """Take the job up and do this rank's part in it; a failure is told to whoever started the ranks."""
    ranks = current_process()
    try:
        text = ranks.take_job()
        if not text:
            return
        job = Job.loads(text)
        config = job.begin(first=ranks.rank == 0)
        importlib.import_module(job.module).COMMANDS[job.command].work(config)
    except (hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException) as error:
        _fail(ranks, explain(error))
    except InputError as error:
        _fail(ranks, str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        _fail(ranks, f"{type(error).__name__}: {error}", traceback.format_exc())


def _fail(ranks: Ranks, message: str, trace: str | None = None) -> None:
    if not ranks.report(message, trace):
        print(f"{trace or ''}w2v-abx: rank {ranks.rank}: {message}", file=sys.stderr)
    sys.exit(2)
