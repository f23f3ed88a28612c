"""One job of a command as text, and the ranks that take it up without having read the command line."""

import importlib
import json
import logging
import signal
import sys
import traceback
from typing import Any

import hydra.errors
import omegaconf.errors
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

from w2v_abx.config import explain
from w2v_abx.credentials import without_credentials
from w2v_abx.distributed.group import Ranks, current_process
from w2v_abx.errors import InputError

__all__ = ["begin_job", "describe_job", "follow"]


def describe_job(module: str, command: str, config: DictConfig) -> str:
    """Describe the job that Hydra has begun in this process, with everything resolved, as JSON.

    ``command`` names the one of ``COMMANDS`` in ``module`` whose ``work`` does the job.
    """
    hydra: Any = HydraConfig.get()
    settings = {name: hydra[name] for name in ("runtime", "job", "job_logging")}  # what commands and logs ask for
    plain = {name: OmegaConf.to_container(node, resolve=True, enum_to_str=True) for name, node in settings.items()}
    job = {
        "module": module,
        "command": command,
        "config": OmegaConf.to_yaml(config, resolve=True),
        "hydra": OmegaConf.to_yaml(OmegaConf.create({**plain, "verbose": hydra.verbose})),
        "arguments": sys.argv,
    }
    return json.dumps(job)


def begin_job(job: dict[str, Any], *, first: bool) -> DictConfig:
    """Make this process one in which Hydra has begun the job, and return its config; the ``first`` rank has the log."""
    sys.argv = list(job["arguments"])
    setup_globals()
    hydra: Any = OmegaConf.create({"hydra": OmegaConf.create(job["hydra"])})
    HydraConfig.instance().cfg = hydra
    if first:
        configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
    else:
        logging.basicConfig(level=logging.ERROR)
    config = OmegaConf.create(job["config"])
    assert isinstance(config, DictConfig)
    OmegaConf.set_struct(config, True)
    return config


def follow() -> None:
    """Wait for the job and do this rank's part in it; report a failure to the process that started the ranks."""
    ranks = current_process()
    try:
        text = ranks.take_job()
        if not text:
            return
        job = json.loads(text)
        config = begin_job(job, first=ranks.rank == 0)
        importlib.import_module(job["module"]).COMMANDS[job["command"]].work(config)
    except (InputError, hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException) as error:
        known = explain(error)
        _fail(ranks, str(known), known.exit_status)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        _fail(ranks, f"{type(error).__name__}: {error}", 1, traceback.format_exc())


def _fail(ranks: Ranks, message: str, exit_status: int, trace: str | None = None) -> None:
    message, trace = without_credentials(message), trace and without_credentials(trace)
    if not ranks.report(message, trace):
        print(f"{trace or ''}w2v-abx: rank {ranks.rank}: {message}", file=sys.stderr)
    sys.exit(exit_status)
