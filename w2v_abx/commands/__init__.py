"""The commands: each a thin Hydra app."""

import functools
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import lightning
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from w2v_abx.configuration import CONF

__all__ = ["command", "evaluation_trainer", "output_folder"]


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
