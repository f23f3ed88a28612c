"""The commands: each a thin Hydra app."""

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


def command(name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config the Hydra app that reads ``conf/NAME.yaml``."""
    return hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)


def output_folder() -> Path:
    """The folder of the run that Hydra has started."""
    return Path(HydraConfig.get().runtime.output_dir)


def evaluation_trainer(config: DictConfig) -> lightning.Trainer:
    """A trainer on the device and in the precision of ``config`` that logs and saves nothing."""
    trainer: lightning.Trainer = instantiate(config, logger=False, enable_checkpointing=False)
    return trainer
