"""One job of a command, as Hydra has put it together, in a form that another process can take up."""

import json
import logging
import sys
from dataclasses import dataclass
from typing import Any, Self

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """``config`` and ``hydra`` are YAML with everything resolved, ``arguments`` the command line that led to them.

    ``command`` names the one of ``COMMANDS`` in ``module`` whose ``work`` does the job.
    """

    module: str
    command: str
    config: str
    hydra: str
    arguments: list[str]

    @classmethod
    def begun(cls, module: str, command: str, config: DictConfig) -> Self:
        """The job that Hydra has begun in this process."""
        hydra: Any = HydraConfig.get()
        settings = {name: hydra[name] for name in ("runtime", "job", "job_logging")}  # what commands and logs ask for
        plain = {name: OmegaConf.to_container(node, resolve=True, enum_to_str=True) for name, node in settings.items()}
        resolved = OmegaConf.to_yaml(config, resolve=True)
        begun = OmegaConf.to_yaml(OmegaConf.create({**plain, "verbose": hydra.verbose}))
        return cls(module, command, resolved, begun, list(sys.argv))

    def dumps(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def loads(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def begin(self, *, first: bool) -> DictConfig:
        """Make this process one in which Hydra has begun the job; only the ``first`` rank has the log. The config."""
        sys.argv = list(self.arguments)
        setup_globals()
        hydra: Any = OmegaConf.create({"hydra": OmegaConf.create(self.hydra)})
        HydraConfig.instance().cfg = hydra
        if first:
            configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
        else:
            logging.basicConfig(level=logging.ERROR)
        config = OmegaConf.create(self.config)
        assert isinstance(config, DictConfig)
        OmegaConf.set_struct(config, True)
        return config
