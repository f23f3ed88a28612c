"""One run's folder: what was asked, by which code, on which machine, and what came out."""

import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import psutil
import torch
from omegaconf import DictConfig, OmegaConf

import w2v_abx
from w2v_abx.atomic import write_json, write_text
from w2v_abx.errors import InputError

__all__ = ["Run"]

RECORDED = ("torch", "torchaudio", "lightning", "transformers", "hydra-core", "numpy", "polars", "numba")


def commit() -> str | None:
    """The commit of the checkout this code runs from, with ``+`` when it has uncommitted changes."""
    here = Path(w2v_abx.__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


class Run:
    """The folder of one run. Making one claims the folder: a second run in it is refused.

    Args:
        folder: where everything of the run goes.
        config: its configuration, written resolved to ``config.yaml``.

    Raises:
        InputError: another run owns the folder.
    """

    def __init__(self, folder: Path | str, config: DictConfig) -> None:
        self.folder = Path(folder)
        self.started = time.time()
        resolved = OmegaConf.to_yaml(config, resolve=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            (self.folder / "run.json").open("x").close()
        except FileExistsError:
            raise InputError(f"{self.folder} already holds a run; choose another folder with hydra.run.dir=…") from None
        write_text(self.folder / "config.yaml", resolved)
        self.facts: dict[str, Any] = {
            "w2v_abx": w2v_abx.__version__,
            "commit": commit(),
            "command": shlex.join([*Path(sys.argv[0]).name.split(), *sys.argv[1:]]),
            "seed": config.seed,
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in RECORDED},
            "hardware": {
                "machine": platform.machine(),
                "cores": psutil.cpu_count(),
                "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
                "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            },
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            "state": "running",
        }
        write_json(self.folder / "run.json", self.facts)

    def record(self, **facts: Any) -> None:
        """Add ``facts`` and the wall time so far, in seconds."""
        self.facts |= {"wall_seconds": round(time.time() - self.started, 1), **facts}
        write_json(self.folder / "run.json", self.facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.record(state="finished" if error is None else f"stopped: {str(error) or type(error).__name__}")
