"""Keep what a job was asked in its folder, as Hydra does, but without credentials."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from w2v_abx.credentials import public
from w2v_abx.system.atomic import write_text

__all__ = ["Asked"]


class Asked(Callback):
    """Write ``hydra/config.yaml``, ``hydra.yaml`` and ``overrides.yaml`` into a job's folder.

    Hydra's own would hold the passwords of addresses, and are off (``hydra.output_subdir=null``).
    """

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        content = public(OmegaConf.to_container(config))
        hydra = content.pop("hydra")
        folder = Path(HydraConfig.get().runtime.output_dir) / "hydra"
        asked = {"config": content, "hydra": {"hydra": hydra}, "overrides": hydra["overrides"]["task"]}
        for name, part in asked.items():
            write_text(folder / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(part)))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.overrides = public(job_return.overrides)  # shown where the job has failed

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Clean ``multirun.yaml``: a sweep saves the configuration that it works with, and offers no other way."""
        OmegaConf.save = staticmethod(_save)  # type: ignore[method-assign, assignment]


def _save(config: Any, f: Path, resolve: bool = False) -> None:
    write_text(f, OmegaConf.to_yaml(OmegaConf.create(public(OmegaConf.to_container(config))), resolve=resolve))
