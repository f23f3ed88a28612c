"""The commands: each a thin Hydra app."""

import functools
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import lightning
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from w2v_abx.configuration import CONF
from w2v_abx.errors import InputError

__all__ = ["command", "evaluation_trainer", "is_first_rank", "launching", "output_folder"]


NOISE = (  # of libraries, about what is so on purpose
    ".*isinstance.treespec, LeafSpec.*",
    ".*`IterableDataset` has `__len__` defined.*",  # each rank and worker knows its share
    ".*Experiment logs directory .* exists and is not empty.*",  # the run's folder
    ".*does not have many workers which may be a bottleneck.*",
    ".*module\\(s\\) in eval mode at the start of training.*",  # frozen parts
)


def command(name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config the Hydra app that reads ``conf/NAME.yaml``."""

    def app(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(task)
        def quiet(config: DictConfig) -> None:
            logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
            with warnings.catch_warnings():
                for message in NOISE:
                    warnings.filterwarnings("ignore", message)
                task(config)

        main: Callable[[], None] = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(quiet)
        return main

    return app


def output_folder() -> Path:
    """The folder of the run that Hydra has started."""
    return Path(HydraConfig.get().runtime.output_dir)


def evaluation_trainer(config: DictConfig) -> lightning.Trainer:
    """A trainer on the device and in the precision of ``config`` that logs and saves nothing."""
    trainer: lightning.Trainer = instantiate(
        config, logger=False, enable_checkpointing=False, fast_dev_run=False, limit_test_batches=None
    )
    return trainer


def is_first_rank() -> bool:
    """Whether this process has the run's folder and the terminal: the only one, or the first of several."""
    return getattr(rank_zero_only, "rank", 0) in (0, None)


@contextmanager
def launching(trainer: lightning.Trainer) -> Iterator[None]:
    """Where ``trainer`` starts the other ranks by running the command again: let it, and see them end.

    Raises:
        InputError: it would do so for one job of a sweep, whose overrides the command line does not hold.
    """
    launcher: Any = trainer.strategy.launcher
    starts = trainer.world_size > 1 and not trainer.strategy.cluster_environment.creates_processes_externally  # type: ignore[attr-defined]
    if starts and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError(
            f"the jobs of a sweep work in one process each, not {trainer.world_size}; set trainer.devices=1"
        )
    given = sys.argv
    if starts:
        # What the user typed, which `w2v_abx.__main__` has changed for Hydra; and no log file beside the first rank's.
        script, _, name = given[0].rpartition(" ")
        sys.argv = [script, name, *given[1:], "hydra/job_logging=none"]
    try:
        yield
    finally:
        sys.argv = given
        for process in getattr(launcher, "procs", []) if starts else []:
            try:
                process.wait(60)  # they have nothing left to do, or have failed along with this one
            except subprocess.TimeoutExpired:
                process.kill()
